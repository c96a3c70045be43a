//! Making proofs of a signed generation: one pass over its log and its live entries, then any number
//! of proofs without a key.

use super::key::{self, Key};
use super::trust::signed;
use super::units::EntryAt;
use super::{Generation, Pack};
use crate::error::{Error, ErrorKind, Result};
use crate::format::cbor::Writer as CborWriter;
use crate::format::entry::{Content, Entry};
use crate::format::signature::SignatureFormat;
use crate::format::{FormatError, Rule};
use crate::proof::merkle::{consistency_path, inclusion_path, root, run_path};
use crate::proof::{
    AbsenceProof, Absent, CompleteProof, ConsistencyProof, CoseReceipt, Head, MapKey, Note, Policy,
    PresenceProof, Present, RangeLeaf, SliceProof, TlogProof, cut_slice, map_leaf_hash,
};
use crate::tree::{Node, leaf_hash, sha256};
use std::collections::BTreeMap;

/// Makes proofs of one generation of a pack, under the signatures that it has.
#[derive(Debug)]
pub struct Prover {
    pack: Pack,
    generation: Generation,
    note: Note,
    /// Ed25519 over the root, for receipts.
    cose: Option<[u8; 64]>,
    /// Hashes of the entries of the log.
    log: Vec<Node>,
    seal: Vec<u8>,
    map: Vec<MapLeaf>,
    map_hashes: Vec<Node>,
}

/// A leaf of the map, with where its value is.
#[derive(Debug)]
struct MapLeaf {
    key: Vec<u8>,
    value_hash: Node,
    /// The value of a content's leaf; that of a key is its entry.
    content: Option<Content>,
}

fn missing(what: String) -> Error {
    Error::new(ErrorKind::NotFound, what)
}

impl Pack {
    /// Reads what is needed to prove things of the newest signed generation, or of generation
    /// `number`. Roots are held to the seal and the commit, so that no proof fails later that would
    /// not here.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if that generation is not there, or has no signature of the kind that
    /// notes carry; [`ErrorKind::Corrupt`] if the log does not give its roots; as any read.
    pub fn prover(&self, number: Option<u64>) -> Result<Prover> {
        let signatures = self.signatures()?;
        let origin = self.origin()?.unwrap_or_default();
        let generations = self.generations()?;
        let wanted = generations.into_iter().filter(|g| number.is_none_or(|n| n == g.number));
        let mut found = None;
        for generation in wanted {
            let head = Head { size: generation.log_size, root: generation.log_root };
            // A proof file carries a note, so a signature of another kind does not serve.
            let notes = signed(&signatures, &origin, head)?.into_iter().map(|signed| signed.note);
            if let Some(note) = notes.into_iter().find(|note| !note.signatures().is_empty()) {
                found = Some((generation, note));
                break;
            }
        }
        let Some((generation, note)) = found else {
            let error = missing("no generation that could be proven is signed".to_owned());
            return Err(self.error(error.hinting("`pefc sign` signs the newest one")));
        };
        let is_cose = |signature: &&crate::format::signature::Signature<'_>| {
            signature.format == SignatureFormat::Cose && signature.log_size == generation.log_size
        };
        let cose = signatures.iter().find(is_cose);
        let cose = cose.and_then(|signature| signature.value.as_ref().try_into().ok());
        Prover::new(self.at_generation(generation.number)?, generation, note, cose)
    }
}

impl Prover {
    fn new(pack: Pack, generation: Generation, note: Note, cose: Option<[u8; 64]>) -> Result<Self> {
        let (mut log, mut seal) = (Vec::new(), Vec::new());
        pack.for_each_entry(|index, bytes| {
            log.push(leaf_hash(bytes));
            if index + 1 == generation.log_size {
                seal = bytes.to_vec();
            }
        })?;
        let mut keys = Vec::new();
        let mut contents: BTreeMap<_, Content> = BTreeMap::new();
        let mut entries = pack.entries_in_order();
        while let Some(found) = entries.next_place() {
            let added = found.and_then(|found| {
                found.with_bytes(|bytes| {
                    if let Entry::Put(put) = Entry::decode(bytes)?.0 {
                        contents.extend(put.content.map(|content| (content.name, content)));
                        let key = [b"p", key::encode(put.space, &put.key).as_slice()].concat();
                        keys.push(MapLeaf { key, value_hash: sha256(bytes), content: None });
                    }
                    Ok(())
                })
            });
            added.map_err(|error| pack.error(error))?;
        }
        let mut map: Vec<MapLeaf> = contents.into_values().map(content_leaf).collect();
        map.append(&mut keys);
        let map_hashes: Vec<Node> =
            map.iter().map(|leaf| map_leaf_hash(&leaf.key, &leaf.value_hash)).collect();
        let roots = (log.len() as u64, root(&log), map.len() as u64, root(&map_hashes));
        let stated =
            (generation.log_size, generation.log_root, generation.map_size, generation.map_root);
        if roots != stated {
            let rule = if roots.1 == stated.1 { Rule::MapRoot } else { Rule::LogRoot };
            return Err(pack.error(FormatError::new(rule, generation.end)));
        }
        Ok(Self { pack, generation, note, cose, log, seal, map, map_hashes })
    }

    /// The generation that is proven.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The checkpoint, with all its signatures.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// That the newest entry of `key` is in the log.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the log never had that key.
    pub fn logged<'k>(&self, key: impl Into<Key<'k>>) -> Result<TlogProof> {
        let (index, entry) = self.newest_entry(&key.into())?;
        self.log_proof(index, entry)
    }

    fn newest_entry(&self, key: &Key<'_>) -> Result<(usize, Vec<u8>)> {
        let wanted = key.encode();
        if let Some(at) = self.pack.find_entry(&wanted)?.filter(EntryAt::is_put) {
            let bytes = at.with_bytes(|bytes| Ok(bytes.to_vec()));
            let bytes = bytes.map_err(|error| self.pack.error(error))?;
            let index = usize::try_from(at.log_index()).unwrap_or(usize::MAX);
            if self.log.get(index) != Some(&leaf_hash(&bytes)) {
                return Err(self.pack.error(FormatError::new(Rule::Index, 0)));
            }
            return Ok((index, bytes));
        }
        // It was deleted, or never there: only the log itself tells.
        let mut found = None;
        let mut index_of = 0;
        self.pack.for_each_entry(|_, bytes| {
            if let Ok((Entry::Put(put), _)) = Entry::decode(bytes)
                && key::encode(put.space, &put.key) == wanted
            {
                found = Some((index_of, bytes.to_vec()));
            }
            index_of += 1;
        })?;
        found.ok_or_else(|| self.pack.error(missing(format!("{key} is not in the log"))))
    }

    fn log_proof(&self, index: usize, entry: Vec<u8>) -> Result<TlogProof> {
        let path = self.log_path(index)?;
        Ok(TlogProof::new(entry, index as u64, path, self.note.clone()))
    }

    fn log_path(&self, index: usize) -> Result<Vec<Node>> {
        inclusion_path(&self.log, index)
            .ok_or_else(|| self.pack.error(missing(format!("the log has no entry {index}"))))
    }

    fn seal_proof(&self) -> Result<TlogProof> {
        // The log ends in the seal, so it is not empty.
        self.log_proof(self.log.len().saturating_sub(1), self.seal.clone())
    }

    /// That a key or content is live.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not.
    pub fn present(&self, key: &MapKey) -> Result<Present> {
        let bytes = key.encode();
        let index = self.map.binary_search_by(|leaf| leaf.key.as_slice().cmp(&bytes));
        let index = index.map_err(|_| self.pack.error(missing("it is not live".to_owned())))?;
        Ok(Present::new(self.map_leaf(index)?, self.seal_proof()?))
    }

    /// That a key or content is not live.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if it is.
    pub fn absent(&self, key: &MapKey) -> Result<Absent> {
        let bytes = key.encode();
        let at = match self.map.binary_search_by(|leaf| leaf.key.as_slice().cmp(&bytes)) {
            Ok(_) => {
                let error = Error::new(ErrorKind::AlreadyExists, "it is live, not absent");
                return Err(self.pack.error(error));
            }
            Err(at) => at,
        };
        let left = at.checked_sub(1).map(|at| self.map_leaf(at)).transpose()?;
        let right = (at < self.map.len()).then(|| self.map_leaf(at)).transpose()?;
        let gap = AbsenceProof { key: bytes, left, right };
        let gap = (!self.map.is_empty()).then_some(gap);
        Ok(Absent::new(key.clone(), gap, self.seal_proof()?))
    }

    /// All live keys that begin with `prefix`, and that there are no others.
    ///
    /// # Errors
    /// As any read.
    pub fn complete<'k>(&self, prefix: impl Into<Key<'k>>) -> Result<CompleteProof> {
        let prefix = prefix.into();
        let bytes = [b"p", prefix.encode().as_slice()].concat();
        let first = self.map.partition_point(|leaf| leaf.key < bytes);
        let inside = self.map[first..].iter().take_while(|leaf| leaf.key.starts_with(&bytes));
        let end = first + inside.count();
        let side =
            |leaf: &MapLeaf| RangeLeaf { key: leaf.key.clone(), value_hash: leaf.value_hash };
        let run = first.saturating_sub(1)..(end + 1).min(self.map.len());
        Ok(CompleteProof {
            space: prefix.space(),
            prefix: prefix.bytes().to_vec(),
            first: run.start as u64,
            before: first.checked_sub(1).and_then(|at| self.map.get(at)).map(side),
            entries: (first..end).map(|at| self.value(at)).collect::<Result<_>>()?,
            after: self.map.get(end).map(side),
            path: run_path(&self.map_hashes, run).unwrap_or_default(), // none for an empty map
            seal: self.seal_proof()?,
        })
    }

    /// The bytes `[start, start + len)` of the content under `key`. The content is read as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if `key` has no content, [`ErrorKind::Usage`] for a range that is empty
    /// or not within it.
    pub fn slice<'k>(&self, key: impl Into<Key<'k>>, start: u64, len: u64) -> Result<SliceProof> {
        let key = key.into();
        let reader = self.pack.reader(Key::new(key.space(), key.bytes().to_vec()))?;
        let reader = reader
            .ok_or_else(|| self.pack.error(missing(format!("{key} has no content in the pack"))))?;
        let end = start.checked_add(len).filter(|end| *end <= reader.len() && len > 0);
        if end.is_none() {
            let what = format!("{key} has {} bytes: no such range in it", reader.len());
            return Err(self.pack.error(Error::new(ErrorKind::Usage, what)));
        }
        let cut = cut_slice(reader, start, len);
        let (_, slice) = cut.map_err(|source| {
            self.pack.error(Error::new(ErrorKind::Io, "reading it").because(source))
        })?;
        Ok(SliceProof::new(start, len, self.logged(key)?, slice))
    }

    /// That the log of size `old_size` is a prefix of this one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the log is smaller.
    pub fn consistency(&self, old_size: u64) -> Result<ConsistencyProof> {
        let size = usize::try_from(old_size).unwrap_or(usize::MAX);
        let path = consistency_path(&self.log, size).ok_or_else(|| {
            let what = format!("the log has {} entries, not {old_size}", self.log.len());
            self.pack.error(missing(what))
        })?;
        Ok(ConsistencyProof::new(old_size, path, self.note.clone()))
    }

    /// That the newest entry of `key` is in the log, as a COSE receipt.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the log never had that key, or has no signature for receipts.
    pub fn receipt<'k>(&self, key: impl Into<Key<'k>>) -> Result<CoseReceipt> {
        let signature = self.cose.ok_or_else(|| {
            let error = missing("this generation has no signature for receipts".to_owned());
            self.pack.error(error.hinting("`pefc sign --cose` adds one"))
        })?;
        let (index, entry) = self.newest_entry(&key.into())?;
        let path = self.log_path(index)?;
        Ok(CoseReceipt { entry, size: self.log.len() as u64, index: index as u64, path, signature })
    }

    fn map_leaf(&self, index: usize) -> Result<PresenceProof> {
        let path = inclusion_path(&self.map_hashes, index).unwrap_or_default();
        let size = self.map.len() as u64;
        let (key, value) = (self.map[index].key.clone(), self.value(index)?);
        Ok(PresenceProof::new(key, value, index as u64, size, &path)?)
    }

    /// The value of a leaf.
    fn value(&self, index: usize) -> Result<Vec<u8>> {
        let leaf = &self.map[index];
        if let Some(content) = &leaf.content {
            return Ok(content_value(content));
        }
        let found = self.pack.find_entry(&leaf.key[1..])?;
        let found = found.ok_or_else(|| self.pack.error(FormatError::new(Rule::Index, 0)))?;
        let bytes = found.with_bytes(|bytes| Ok(bytes.to_vec()));
        bytes.map_err(|error| self.pack.error(error))
    }

    /// Whether `policy` accepts the signatures that the proofs carry: those who get them will ask.
    ///
    /// # Errors
    /// What [`Policy::verify`] gives.
    pub fn check(&self, policy: &Policy) -> Result<()> {
        policy.verify(&self.note)?;
        Ok(())
    }
}

fn content_value(content: &Content) -> Vec<u8> {
    let mut writer = CborWriter::default();
    writer.array(2).bytes(content.name.as_bytes()).uint(content.len);
    writer.finish()
}

fn content_leaf(content: Content) -> MapLeaf {
    MapLeaf {
        key: MapKey::Content(content.name).encode(),
        value_hash: sha256(&content_value(&content)),
        content: Some(content),
    }
}
