//! A sorted run of keys in short, to search it with few cache misses.

/// Eight bytes of each key of a sorted run, side by side: a binary search touches a few cache lines
/// of them, and not a part of the body at every step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyHeads {
    /// Bytes that all the keys share, the space before them included.
    shared_len: usize,
    /// The eight bytes behind those, the first one highest, zeros behind the key's end: in the order
    /// of the keys, but several can have the same.
    heads: Vec<u64>,
}

impl KeyHeads {
    /// Memory that it takes for a key, in bytes.
    pub(crate) const ITEM_BYTES: usize = size_of::<u64>();

    /// Of keys, each with its space; `None` if they are not in order.
    pub(crate) fn new<'k>(
        keys: impl DoubleEndedIterator<Item = (u8, &'k [u8])> + Clone,
    ) -> Option<Self> {
        let mut ends = keys.clone();
        let first = ends.next();
        let shared_len = match (first, ends.next_back().or(first)) {
            (Some(first), Some(last)) if first.0 == last.0 => {
                1 + first.1.iter().zip(last.1).take_while(|(one, other)| one == other).count()
            }
            _ => 0,
        };
        let heads: Vec<u64> = keys.map(|(space, key)| head(shared_len, space, key)).collect();
        heads.is_sorted().then_some(Self { shared_len, heads })
    }

    /// The position of a key in the run, of which `key_at` gives the key at a position.
    pub(crate) fn find<'k>(
        &self,
        (space, key): (u8, &[u8]),
        key_at: impl Fn(usize) -> Option<(u8, &'k [u8])>,
    ) -> Option<usize> {
        let wanted = head(self.shared_len, space, key);
        let mut low = self.heads.partition_point(|head| *head < wanted);
        let mut high = low + self.heads[low..].partition_point(|head| *head == wanted);
        while low < high {
            let middle = low + (high - low) / 2;
            match key_at(middle)?.cmp(&(space, key)) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

fn head(shared_len: usize, space: u8, key: &[u8]) -> u64 {
    let (mut head, rest) = match shared_len.checked_sub(1) {
        None => (u64::from(space), key.get(..7).unwrap_or(key)),
        Some(skip) => {
            let rest = key.get(skip..).unwrap_or(&[]);
            (0, rest.get(..8).unwrap_or(rest))
        }
    };
    rest.iter().for_each(|byte| head = head << 8 | u64::from(*byte));
    match rest.len() + usize::from(shared_len == 0) {
        0 => 0, // a shift by all 64 bits is no shift
        taken => head << (8 * (8 - taken)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_is_there_and_nothing_else(
            keys in prop::collection::btree_set((0_u8..3, prop::collection::vec(0_u8..3, 0..12)), 0..60),
            others in prop::collection::vec((0_u8..3, prop::collection::vec(0_u8..3, 0..12)), 0..60),
        ) {
            let run: Vec<(u8, &[u8])> = keys.iter().map(|(space, key)| (*space, &key[..])).collect();
            let heads = KeyHeads::new(run.iter().copied()).unwrap();
            for wanted in keys.iter().chain(&others) {
                let wanted = (wanted.0, &wanted.1[..]);
                let found = heads.find(wanted, |at| run.get(at).copied());
                prop_assert_eq!(found, run.iter().position(|key| *key == wanted));
            }
        }
    }

    #[test]
    fn keys_out_of_order_are_no_run() {
        let keys: [(u8, &[u8]); 3] = [(1, b"b"), (1, b"a"), (1, b"c")];
        assert!(KeyHeads::new(keys.into_iter()).is_none());
        let spaces: [(u8, &[u8]); 2] = [(1, b"a"), (0, b"a")];
        assert!(KeyHeads::new(spaces.into_iter()).is_none());
    }
}
