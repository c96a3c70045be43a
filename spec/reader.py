#!/usr/bin/env python3
"""A second reader of PEFC packs, written from format.md alone. Numbers in brackets are its sections.

    reader.py verify PACK          checks every byte [8]; prints `ok` and the roots
    reader.py list PACK            live keys: space, BLAKE3 name or -, size, key
    reader.py cat PACK KEY [SPACE] the content under a key

It needs the packages blake3, zstandard and cbor2, keeps the whole pack in memory, and verifies it before
it prints anything. A broken rule is named on stderr with its file offset, and the exit code is 1.
"""
import sys
from collections import namedtuple
from hashlib import sha256
from struct import pack, unpack_from

import cbor2
import zstandard
from blake3 import blake3

KINDS = {1: "objects", 2: "records", 3: "lists", 4: "dictionary", 5: "entries", 6: "keys",
         7: "object-index", 8: "key-directory", 9: "commit", 10: "signatures"}
RAW, ZSTD, PREFIX, DICTIONARY = range(4)  # codecs
CODECS = {1: (RAW, ZSTD, PREFIX), 2: (RAW, ZSTD, DICTIONARY), 3: (RAW,), 4: (RAW, ZSTD), 5: (RAW, ZSTD),
          6: (RAW, ZSTD), 7: (RAW,), 8: (RAW,), 9: (RAW,), 10: (RAW,)}
MIB = 1 << 20
EMPTY = blake3(b"").digest()


class Fault(Exception):
    """A broken rule and where."""

    def __init__(self, rule, at):
        super().__init__(f"{rule} at byte {at}")
        self.rule, self.at = rule, at


def need(holds, rule, at):
    if not holds:
        raise Fault(rule, at)


def check_of(data):
    return blake3(data).digest()[:8]


def uvarint(data, at, base):
    """[1.2] The number at `at` and the position behind it."""
    value, start = 0, at
    for shift in range(0, 70, 7):
        need(at < len(data), "truncated", base + at)
        byte = data[at]
        at += 1
        need(not (shift and byte == 0) and not (shift == 63 and byte > 1), "length", base + start)
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Fault("length", base + start)


# ---------------------------------------------------------------- headers and commits [3, 4, 5.9]

class Frame:
    def __init__(self, at, fields, stored_hash, previous, check):
        (self.kind, self.codec, self.references, self.flags, self.stored, self.raw, self.items,
         self.ordinal, _) = fields
        self.at, self.hash, self.previous, self.check = at, stored_hash, previous, check
        self.payload = self.body = b""  # the body is the decoded one; of records the table and what follows
        self.depth = self.segment = 0
        self.commit = 0  # number of the commit that covers it
        self.names = []  # of the objects in it

    @property
    def end(self):
        return -(-(self.at + 80 + self.stored) // 8) * 8


def segment_header(data, at):
    head = data[at:at + 64]
    magic = b"\x89PEFC\r\n\x1a"
    if len(head) < 64:
        begins = head != b"" and magic.startswith(head[:8])
        raise Fault("truncated" if begins or at else "segment-magic", at)
    if head[:8] != magic:
        mangled = head[1:5] == b"PEFC" and head[0] in (0x89, 0x09)
        raise Fault("segment-magic-mangled" if mangled else "segment-magic", at)
    version, layout, reserved, _, _, incompatible, offset, log_size, last = unpack_from("<HBBIIIQQQ", head, 8)
    need(version == 1, "version", at + 8)
    need(check_of(head[:56]) == head[56:], "header-check", at + 56)
    need(incompatible == 0, "feature", at + 20)
    need(layout <= 1, "layout", at + 10)
    need(reserved == 0, "reserved", at + 11)
    need(offset == at, "offset", at + 24)
    return log_size, last, head[48:56], head[56:]


def frame_header(data, at):
    head = data[at:at + 80]
    need(len(head) == 80, "truncated", at)
    fields = unpack_from("<4B4IQ", head, 4)
    kind, codec, references, flags, stored, raw, items, _, offset = fields
    need(head[:4] == b"\xb1FRM", "frame-magic", at)
    need(check_of(head[:72]) == head[72:], "header-check", at + 72)
    need(kind in KINDS or kind >= 128, "frame-kind", at + 4)
    need(codec in CODECS.get(kind, range(4)), "codec", at + 5)
    need(offset == at, "offset", at + 24)
    frame = Frame(at, fields, head[32:64], head[64:72], head[72:])
    if kind >= 128:
        return frame
    least, most = {RAW: (0, 0), ZSTD: (0, 0), PREFIX: (1, 4), DICTIONARY: (1, 1)}[codec]
    need(least <= references <= most, "reference", at + 6)
    need(flags & ~(kind == 5) == 0, "reserved", at + 7)
    need(raw <= {3: 1 << 30, 7: 1 << 32, 8: 1 << 32}.get(kind, 16 * MIB), "limit", at + 12)
    body, most = stored - 32 * references, raw + (16 * items if kind == 2 else 0)
    need(body == most or (codec != RAW and 0 <= body < most), "length", at + 8)
    need(1 <= items <= 1 << 24, "limit", at + 16)
    need(items <= (1 if kind in (4, 7, 8, 9) else raw), "length", at + 16)
    return frame


Commit = namedtuple("Commit", "number log_size generation seal seal_check previous_commit previous_footer next_unit"
                              " covers_from footer sections frontier segment at")


def commit_payload(payload, at):
    base = at + 80
    need(len(payload) >= 104, "truncated", base)
    numbers = unpack_from("<4Q8s4Q", payload)
    flags, count = payload[72], payload[73]
    need(payload[74:80] == bytes(6) and flags <= 1, "reserved", base + 72)
    frontier_at = 80 + 48 * count
    trailer_at = frontier_at + 32 * numbers[1].bit_count()
    need(len(payload) == trailer_at + 24, "length", base + 73)
    segment, own, magic = unpack_from("<QQ8s", payload, trailer_at)
    need(magic == b"PEFC/end" and own == at, "trailer", base + trailer_at)
    sections = [unpack_from("<QQ32s", payload, 80 + 48 * i) for i in range(count)]
    frontier = [payload[i:i + 32] for i in range(frontier_at, trailer_at, 32)]
    c = Commit(*numbers, flags == 1, sections, frontier, segment, at)
    kinds = [kind for kind, _, _ in sections]
    need(all(a < b for a, b in zip(kinds, kinds[1:])), "commit", base + 80)
    need(c.footer or not (count or c.next_unit or c.covers_from), "commit", base + 72)
    need(c.number > 0 and (c.number == 1) == (c.previous_commit == 0), "commit", base)
    need(c.generation <= min(c.number, c.log_size), "commit", base + 16)
    need((c.generation == 0) == (c.seal == 0) and (c.seal == 0 or 0 < place(c.seal)[0] < at), "commit", base + 24)
    need(c.seal or c.seal_check == bytes(8), "commit", base + 32)
    need(c.previous_commit < at and c.segment < at, "commit", base + 40)
    need(c.previous_footer <= c.previous_commit, "commit", base + 48)
    if c.footer:
        need(c.covers_from <= segment and (c.next_unit == 0) == (c.covers_from == 0)
             and (c.next_unit < c.covers_from or c.next_unit == 0), "commit", base + 56)
        need(all(offset < at for _, offset, _ in sections), "commit", base + 80)
    return c


def place(locator):
    return (locator >> 24) * 8, locator & 0xFFFFFF


def locator(frame, item):
    return frame.at // 8 << 24 | item


def sound_commit(data, end):
    """[7.1] The commit whose trailer ends at `end`."""
    try:
        at = unpack_from("<Q", data, end - 16)[0]
        frame = frame_header(data, at)
        payload = data[at + 80:at + 80 + frame.stored]
        sound = frame.kind == 9 and frame.end == end and blake3(payload).digest() == frame.hash
        return commit_payload(payload, at) if sound else None
    except Fault:
        return None


# ------------------------------------------------------------------------------- BLAKE3 tree [5.3]

def join_groups(values, length, top=True):
    """The root of the BLAKE3 tree over chaining values of groups of 256 KiB."""
    if len(values) == 1:
        return values[0]
    chunks = -(-length // 1024)  # the left side is the largest power of two of them below all
    left = 1 << (chunks - 1).bit_length() - 1
    groups = left // 256
    sides = (join_groups(values[:groups], left * 1024, False)
             + join_groups(values[groups:], length - left * 1024, False))
    return blake3_parent(sides, 4 | (8 if top else 0))  # PARENT, ROOT


def blake3_parent(block, flags):
    iv = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
    v, m = iv + iv[:4] + [0, 0, 64, flags], list(unpack_from("<16I", block))

    def mix(a, b, c, d, x, y):
        for word, r, s in ((x, 16, 12), (y, 8, 7)):
            v[a] = v[a] + v[b] + word & 0xFFFFFFFF
            v[d] = turn(v[d] ^ v[a], r)
            v[c] = v[c] + v[d] & 0xFFFFFFFF
            v[b] = turn(v[b] ^ v[c], s)

    def turn(x, n):
        return (x >> n | x << 32 - n) & 0xFFFFFFFF

    for _ in range(7):
        for i in range(4):
            mix(i, i + 4, i + 8, i + 12, m[2 * i], m[2 * i + 1])
        for i in range(4):
            mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)]
    return pack("<8I", *(v[i] ^ v[i + 8] for i in range(8)))


# ------------------------------------------------------------------------------ zstd, CBOR [4.1, 6.1]

def unzstd(stored, length, dictionary, at):
    need(stored[:4] == b"\x28\xb5\x2f\xfd", "compression", at)
    try:
        about = zstandard.get_frame_parameters(stored)
        need(about.content_size == length and len(stored) > 4 and stored[4] & 3 == 0, "compression", at)
        need(about.window_size <= 1 << 24, "limit", at)
        decoder = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 24)
        out = decoder.decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError:
        raise Fault("compression", at) from None
    need(len(out) == length, "compression", at)
    return out


class Pairs(list):
    """A CBOR map: its pairs in order."""


def cbor(data, at, base, depth=18):
    """The item at `at` and the position behind it. The entry and its map of attributes take 2 levels."""
    need(at < len(data), "truncated", base + at)
    start, major, low = at, data[at] >> 5, data[at] & 31
    at += 1
    value = low
    if low >= 24:
        need(low < 28, "cbor", base + start)
        size = 1 << low - 24
        need(at + size <= len(data), "truncated", base + at)
        value = int.from_bytes(data[at:at + size], "big")
        at += size
        need(value >= {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}[size], "cbor", base + start)
    if major in (0, 1):
        return (value if major == 0 else ~value), at
    if major in (2, 3):
        need(at + value <= len(data), "truncated", base + at)
        text = data[at:at + value]
        try:
            return (text if major == 2 else text.decode()), at + value
        except UnicodeDecodeError:
            raise Fault("cbor", base + at) from None
    if major in (4, 5):
        need(value * (major - 3) <= len(data) - at, "truncated", base + start)
        need(depth > 0, "limit", base + start)
        if major == 4:
            items = []
            for _ in range(value):
                item, at = cbor(data, at, base, depth - 1)
                items.append(item)
            return items, at
        pairs, before = Pairs(), b""
        for _ in range(value):
            key, behind = cbor(data, at, base, depth - 1)
            need(before < data[at:behind], "cbor", base + at)
            before = data[at:behind]
            item, at = cbor(data, behind, base, depth - 1)
            pairs.append((key, item))
        return pairs, at
    need(major == 7 and low in (20, 21, 22), "cbor", base + start)
    return {20: False, 21: True, 22: None}[low], at


def as_cbor2(value, in_key=False):
    """A decoded value as the package cbor2 gives it: a decoder of other hands must find the same."""
    if type(value) is Pairs:
        pairs = ((as_cbor2(key, True), as_cbor2(item, in_key)) for key, item in value)
        return (cbor2.frozendict if in_key else dict)(pairs)
    if type(value) is list:
        return (tuple if in_key else list)(as_cbor2(item, in_key) for item in value)
    return value


# ------------------------------------------------------------------------------------- entries [6.2]

def is_uint(value, end=1 << 64):
    return type(value) is int and 0 <= value < end


def is_bytes(size):
    return lambda value: type(value) is bytes and len(value) == size


def is_text(value):
    return type(value) is str


def or_null(test):
    return lambda value: value is None or test(value)


def pair_of(first, second):
    """A pair of another length breaks `entry`, one of other types `cbor`."""
    return lambda value: type(value) is list and (len(value) != 2 or (first(value[0]) and second(value[1])))


def list_of(test):
    return lambda value: type(value) is list and all(map(test, value))


def is_params(value):
    return type(value) is Pairs and all(is_uint(key) for key, _ in value)


H32 = is_bytes(32)
SHAPES = {
    0: (is_text, is_bytes(16), is_uint, list_of(is_text), is_params),
    1: (is_uint, lambda v: type(v) is bytes, or_null(H32), is_uint, or_null(H32), or_null(is_text),
        lambda v: type(v) is Pairs),
    2: (is_uint, lambda v: type(v) is bytes, or_null(is_text)),
    3: (is_uint, is_uint, list_of(is_text), list_of(pair_of(is_text, is_uint))),
    4: (pair_of(is_uint, H32), or_null(pair_of(is_uint, H32)), pair_of(is_uint, is_uint), or_null(is_uint), is_params),
}
U32 = lambda value: is_uint(value, 1 << 32)
ATTRIBUTES = {0: is_uint, 1: U32, 2: U32, 3: U32, 4: is_text, 5: is_text,
              6: lambda v: type(v) is int and -(1 << 63) <= v < 1 << 63, 7: U32,
              8: lambda v: type(v) is bytes, 9: pair_of(U32, U32)}
GENESIS, PUT, DEL, KEYS, SEAL = range(5)


def check_entry(entry, at):
    need(type(entry) is list and all(map(is_uint, entry[:2])), "cbor", at)
    need(len(entry) > 2 and entry[0] == 1 and entry[1] in SHAPES, "entry", at)
    kind, fields = entry[1], entry[2:]
    need(len(fields) == len(SHAPES[kind]), "entry", at)
    need(all(test(value) for test, value in zip(SHAPES[kind], fields)), "cbor", at)
    pairs = {SEAL: [pair for pair in fields[:3] if pair is not None], KEYS: fields[-1]}.get(kind, ())
    need(all(len(pair) == 2 for pair in pairs), "entry", at)
    if kind in (PUT, DEL):
        space, key = fields[:2]
        parts = key.split(b"/")
        need(1 <= len(key) <= 4096, "key", at)
        need(space <= 2, "entry", at)
        need(space or not any(part in (b"", b".", b"..") or 0 in part for part in parts), "key", at)
    if kind == PUT:
        _, _, name, size, digest, _, attributes = fields
        known = {key: value for key, value in attributes if is_uint(key, 10)}
        need(all(ATTRIBUTES[key](value) for key, value in known.items()), "cbor", at)
        what = known.get(0, 0)
        need(1 <= known.get(0, 1) <= 7 and known.get(1, 0) <= 0o7777, "entry", at)
        need(7 not in known or (6 in known and 1 <= known[7] < 10 ** 9), "entry", at)
        need((8 in known) == (what in (2, 3)) and known.get(8) != b"", "entry", at)
        need((9 in known) == (what in (5, 6)) and len(known.get(9, "ab")) == 2, "entry", at)
        need(name is not None if what == 0 else (name, size, digest) == (None, 0, None), "entry", at)


def key_string(entry):
    return bytes([entry[2]]) + entry[3] if entry[1] in (PUT, DEL) else None


# ------------------------------------------------------------------------------------- trees [6.4, 6.5]

def node(left, right):
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """The roots of complete subtrees, the largest first."""

    def __init__(self):
        self.size, self.roots = 0, []

    def push(self, data):
        root, size = sha256(b"\0" + data).digest(), self.size
        while size & 1:
            root, size = node(self.roots.pop(), root), size >> 1
        self.roots.append(root)
        self.size += 1

    def root(self):
        if not self.roots:
            return sha256(b"").digest()
        root = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            root = node(left, root)
        return root


def leb(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def cbor_head(major, value):
    for low, size, end in ((value, 0, 24), (24, 1, 1 << 8), (25, 2, 1 << 16), (26, 4, 1 << 32), (27, 8, 1 << 64)):
        if value < end:
            return bytes([major << 5 | low]) + (value.to_bytes(size, "big") if size else b"")


def map_of(live):
    """The tree of live entries, and the size of each distinct content."""
    contents = {entry[4]: entry[5] for entry, _ in live.values() if entry[4] is not None}
    leaves = [(b"h" + name, b"\x82\x58\x20" + name + cbor_head(0, size)) for name, size in contents.items()]
    leaves += [(b"p" + key, data) for key, (_, data) in live.items()]
    tree = Tree()
    for key, value in sorted(leaves):
        tree.push(leb(len(key)) + key + b"\x20" + sha256(value).digest())
    return tree, contents


# ------------------------------------------------------------------------------------- the pack [7, 8]

class Pack:
    def __init__(self, data):
        self.data, self.frames, self.commits, self.segments = data, [], [], {}
        self.end, self.torn = 0, 0
        self.walk()
        self.bodies()
        self.log()
        self.indexes()
        self.signatures()

    # Step 1: structure and commits, and what follows the committed end [7.2].
    def walk(self):
        fault = None
        try:
            self.walk_on()
        except Fault as stopped:
            fault = stopped
        last = self.commits[-1] if self.commits else None
        if fault is None and not last:
            fault = Fault("truncated", len(self.data))
        if fault and (not last or self.written or self.proven(last.number)):
            raise fault
        self.frames = [frame for frame in self.frames if frame.at < self.end]
        self.torn = len(self.data) - self.end

    def proven(self, number):
        """Whether a later commit shows that what is broken was on the medium once."""
        end = len(self.data)
        while (end := self.data.rfind(b"PEFC/end", self.end, end)) >= 0:
            newest = sound_commit(self.data, end + 8) if end % 8 == 0 else None
            if newest:
                return newest.number > number + 1 or (newest.footer and newest.number > number)
        return False

    def walk_on(self):
        data, at, segment, last, footer = self.data, 0, None, None, 0
        before, commit_check, ordinal, logged, covered = b"", bytes(8), 0, 0, []
        while at < len(data) or segment is None and not self.commits:
            self.written = False  # whether the header at hand is as its writer wrote it
            if segment is None:
                head = data[at:at + 64]
                whole = len(head) == 64 and check_of(head[:56]) == head[56:]
                mine = unpack_from("<QQQ8s", head, 24) if whole else None
                self.written = at > 0 and (
                    mine == (at, logged, last.at if last else 0, commit_check)
                    or head[:8] == b"\x89PEFC\r\n\x1a" and head[8:10] not in (b"\0\0", b"\1\0", b"\1", b""))
                log_size, previous, previous_check, before = segment_header(data, at)
                mine = (log_size, previous, previous_check)
                need(mine == (logged, last.at if last else 0, commit_check), "chain", at)
                segment, ordinal, at = at, 0, at + 64
                self.segments[segment] = previous
                continue
            head = data[at:at + 80]
            self.written = len(head) == 80 and head[:4] == b"\xb1FRM" and check_of(head[:72]) == head[72:] \
                and unpack_from("<IQ", head, 20) == (ordinal, at) and head[64:72] == before
            frame = frame_header(data, at)
            need(frame.previous == before and frame.ordinal == ordinal, "chain", at)
            self.written = False
            need(frame.end <= len(data), "truncated", at)
            frame.payload = data[at + 80:at + 80 + frame.stored]
            need(blake3(frame.payload).digest() == frame.hash, "stored-hash", at + 80)
            need(not any(data[at + 80 + frame.stored:frame.end]), "padding", at + 80 + frame.stored)
            self.written = True
            frame.segment = segment
            before, ordinal, at = frame.check, ordinal + 1, frame.end
            covered.append(frame)
            self.frames.append(frame)
            if frame.kind != 9:
                continue
            c = commit_payload(frame.payload, frame.at)
            at_commit = frame.at + 80
            need(c.segment == segment, "commit", at_commit)
            need(c.number == len(self.commits) + 1 and c.log_size >= logged, "commit", at_commit)
            need(c.previous_commit == (last.at if last else 0) and c.previous_footer == footer, "commit", at_commit)
            need(c.generation - (last.generation if last else 0) in ((0, 1) if c.footer else (0,)), "commit", at_commit)
            if c.footer:
                need(self.segments.get(c.covers_from) == c.next_unit, "commit", at_commit)
                need(indexed(c) or c.at - c.covers_from <= 1 << 16, "limit", at_commit)
            else:
                tail = segment if footer else 0
                need(c.at - tail <= 64 * MIB, "limit", at_commit)
            for one in covered:
                one.commit = c.number
            covered, last, logged, commit_check, self.end = [], c, c.log_size, frame.check, at
            self.commits.append(c)
            if c.footer:
                footer, segment = c.at, None

    # Step 2: bodies, objects, chunk lists.
    def bodies(self):
        self.objects = {}  # name -> (number of the commit that covers it, content)
        self.lists = []    # (frame, name, length, [(chunk, length)])
        self.bases = {}    # name -> [(kind, depth, content)] of objects that frames above may refer to
        for frame in self.frames:
            if frame.kind < 9 and frame.kind not in (7, 8):
                self.decode(frame)
                for content in self.split(frame):
                    name = blake3(content).digest()
                    frame.names.append(name)
                    if self.objects.get(name, (frame.commit + 1,))[0] > frame.commit:
                        self.objects[name] = (frame.commit, content)
                    if frame.kind in (1, 4):
                        self.bases.setdefault(name, []).append((frame.kind, frame.depth, content))
                    if frame.kind == 2:
                        row = 32 * frame.references + 16 * (len(frame.names) - 1)
                        need(frame.payload[row:row + 8] == name[:8], "object-name", frame.at + 80 + row)
        whole = dict(self.objects)
        for frame, name, length, chunks in self.lists:
            parts = []
            for chunk, size in chunks:
                in_pieces = chunk not in whole and any(chunk == other for _, other, _, _ in self.lists)
                need(not in_pieces, "chunk-list", frame.at)
                commit, content = whole.get(chunk, (frame.commit + 1, b""))
                need(commit <= frame.commit, "missing-object", frame.at)
                need(len(content) == size, "chunk-list", frame.at)
                parts.append(content)
            content = b"".join(parts)
            # The tree of the group values gave the name, so equal names mean equal group values.
            need(blake3(content).digest() == name, "chunk-list", frame.at)
            if self.objects.get(name, (frame.commit + 1,))[0] > frame.commit:
                self.objects[name] = (frame.commit, content)

    def decode(self, frame):
        """[4.1, 4.2] Sets the body and the depth."""
        at, skip = frame.at + 80, 32 * frame.references
        names = [frame.payload[i:i + 32] for i in range(0, skip, 32)]
        found = []
        for name in names:
            copies = [copy for copy in self.bases.get(name, ()) if frame.codec == PREFIX or copy[0] == 4]
            if not copies:
                wrong = self.bases.get(name) or any(name in self.plain_names(f) for f in self.frames if f.at >= frame.at)
                raise Fault("reference" if wrong else "missing-object", at)
            found.append(min(copies, key=lambda copy: copy[1]))
        frame.depth = max((depth + 1 for _, depth, _ in found), default=0)
        need(frame.depth <= 3, "reference", at)
        history = b"".join(content for _, _, content in found)
        need(len(history) <= 8 * MIB, "limit", at)
        frame.body = frame.payload[skip:]
        self.dictionary = None
        if frame.codec == PREFIX:
            self.dictionary = zstandard.ZstdCompressionDict(history, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        if frame.codec == DICTIONARY:
            need(history[:4] == b"\x37\xa4\x30\xec", "compression", at)
            self.dictionary = zstandard.ZstdCompressionDict(history, dict_type=zstandard.DICT_TYPE_FULLDICT)
        if frame.codec != RAW and frame.kind != 2:
            frame.body = unzstd(frame.body, frame.raw, self.dictionary, at)

    def plain_names(self, frame):
        """Names in a frame that may come later than a reference to it, as far as they can be had."""
        try:
            if frame.kind in (1, 4) and frame.references == 0:
                self.decode(frame)
                return [blake3(content).digest() for content in self.split(frame)]
        except Fault:
            pass
        return []

    def split(self, frame):
        """[5.1 to 5.3] The objects of a frame. Chunk lists are put aside."""
        body, count, at = frame.body, frame.items, frame.at + 80
        if frame.kind in (1, 4):
            position, lengths = 0, [len(body)]
            if count > 1:
                lengths = []
                for _ in range(count):
                    length, position = uvarint(body, position, at)
                    need(1 <= length <= len(body), "length", at)
                    lengths.append(length)
            for length in lengths:
                need(length <= len(body) - position, "length", at)
                yield body[position:position + length]
                position += length
            need(position == len(body), "trailing", at + position)
        elif frame.kind == 2:
            table, start = 16 * count, 0
            need(table <= len(body), "length", at)
            rows = [unpack_from("<II", body, 16 * i + 8) for i in range(count)]
            for i, (end, raw) in enumerate(rows):
                need(start < end <= len(body) - table and end - start <= raw, "length", at + 16 * i)
                start = end
            need(start == len(body) - table, "trailing", at + table + start)
            need(sum(raw for _, raw in rows) == frame.raw, "length", at)
            start = table
            for end, raw in rows:
                stored, start = body[start:table + end], table + end
                need(len(stored) == raw or frame.codec != RAW, "length", at)
                yield stored if len(stored) == raw else unzstd(stored, raw, self.dictionary, at)
        elif frame.kind == 3:
            position = 0
            for _ in range(count):
                start = position
                length, position = uvarint(body, position, at)
                chunk_count, position = uvarint(body, position, at)
                groups, left = -(-length // (256 << 10)), len(body) - position
                need(length <= 1 << 63 and groups >= 2 and chunk_count >= 2, "chunk-list", at + start)
                need(chunk_count <= left // 33 and groups <= left // 32, "truncated", at + start)
                chunks = []
                for _ in range(chunk_count):
                    name, position = body[position:position + 32], position + 32
                    need(position <= len(body), "truncated", at + start)
                    size, position = uvarint(body, position, at)
                    need(size > 0, "chunk-list", at + position)
                    chunks.append((name, size))
                need(sum(size for _, size in chunks) == length, "chunk-list", at + start)
                need(position + 32 * groups <= len(body), "truncated", at + start)
                values = [body[position + 32 * i:position + 32 * i + 32] for i in range(groups)]
                position += 32 * groups
                name = join_groups(values, length)
                frame.names.append(name)
                self.lists.append((frame, name, length, chunks))
            need(position == len(body), "trailing", at + position)

    # Steps 3 and 4: the log and its seals.
    def log(self):
        self.live, self.seal, tree, sealed = {}, None, Tree(), None
        self.places = {}  # frame offset -> [key string or None of each entry]
        self.dels = set()  # locators of del entries
        newest, generation, pending, sorted_key, sealings = (0, bytes(8)), 0, None, None, []
        self.sealed = []  # sizes of the log right after its seals
        commits = {c.at: c for c in self.commits}
        for frame in self.frames:
            if frame.kind == 9:
                c = commits[frame.at]
                need((tree.size, tree.roots) == (c.log_size, c.frontier), "log-root", frame.at + 80)
                need((c.generation, c.seal, c.seal_check) == (generation, *newest), "seal", frame.at + 80)
                need(pending is None or c.footer, "seal", frame.at + 80)
                pending = sorted_key = None
            if frame.kind != 5:
                continue
            body, base = frame.body, frame.at + 80
            need(len(body) >= 8, "truncated", base)
            need(unpack_from("<Q", body)[0] == tree.size, "length", base)
            at, keys = 8, []
            for item in range(frame.items):
                need(pending is None, "log-order", base + at)
                entry, end = cbor(body, at, base)
                need(as_cbor2(entry) == cbor2.loads(body[at:end]), "cbor", base + at)
                check_entry(entry, base + at)
                need(end - at <= 16 << 10, "limit", base + at)
                need((entry[1] == GENESIS) == (tree.size == 0), "log-order", base + at)
                data, key = body[at:end], key_string(entry)
                keys.append(key)
                if entry[1] == PUT:
                    self.put(entry, frame, base + at)
                    self.live[key] = (entry, data)
                elif entry[1] == DEL:
                    need(self.live.pop(key, None), "log-order", base + at)
                    self.dels.add(locator(frame, item))
                elif entry[1] == SEAL:
                    sealings.append((base + at, dict(self.live), entry, sealed))
                    pending, newest, generation = base + at, (locator(frame, item), frame.check), generation + 1
                tree.push(data)
                if entry[1] == SEAL:
                    sealed = [tree.size, tree.root()]
                    self.sealed.append(tree.size)
                at = end
            need(at == len(body), "trailing", base + at)
            run = [key for key in keys if key]
            if frame.flags:
                rising = run if sorted_key is None else [sorted_key] + run
                need(all(a < b for a, b in zip(rising, rising[1:])), "log-order", base)
                stripped = "".join("k" if key else " " for key in keys).strip()
                need(" " not in stripped, "log-order", base)
            sorted_key = (run[-1] if run else sorted_key) if frame.flags else None
            self.places[frame.at] = keys
        self.tree = tree
        for at, live, entry, previous in sealings:
            (map_tree, contents), (size, root) = map_of(live), entry[2]
            need((size, root) == (map_tree.size, map_tree.root()), "map-root", at)
            need(entry[3] == previous, "seal", at)
            need(entry[4] == [len(contents), sum(contents.values())], "seal", at)
            self.seal = entry

    def put(self, entry, frame, at):
        name, size, digest = entry[4:7]
        if name is None:
            return
        commit, content = (0, b"") if name == EMPTY else self.objects.get(name, (frame.commit + 1, b""))
        need(commit <= frame.commit, "missing-object", at)
        need(len(content) == size, "length", at)
        need(digest in (None, sha256(content).digest()), "entry", at)

    # Step 5: sections and key pages, rebuilt from the frames.
    def indexes(self):
        named, by_offset = set(), {frame.at: frame for frame in self.frames}
        for c in (c for c in self.commits if c.footer and indexed(c)):
            unit = [frame for frame in self.frames if c.covers_from <= frame.at < c.at]
            rows = {kind: (offset, head_hash) for kind, offset, head_hash in c.sections if kind in (7, 8)}
            need(len(rows) == 2, "commit", c.at + 80)
            object_rows = sorted((name[:8], locator(frame, item)) for frame in unit
                                 for item, name in enumerate(frame.names))
            entries = [frame for frame in unit if frame.kind == 5]
            direct = len({frame.segment for frame in unit}) == 1 and len({frame.commit for frame in unit}) == 1 \
                and all(frame.flags for frame in entries)
            keys = {}
            for frame in entries:
                for item, key in enumerate(self.places[frame.at]):
                    if key:
                        keys[key] = locator(frame, item), frame.check
            if direct:
                pages = [(f, key) for f in entries for key in [k for k in self.places[f.at] if k][:1]]
            else:
                if c.covers_from == 0:
                    keys = {key: at for key, at in keys.items() if at[0] not in self.dels}
                frames = [frame for frame in unit if frame.kind == 6 and frame.segment == c.segment]
                named.update(frame.at for frame in frames)
                held = [key_rows(frame) for frame in frames]
                need([row for rows_ in held for row in rows_] == sorted(keys.items()), "index", c.at + 80)
                pages = [(frame, rows_[0][0]) for frame, rows_ in zip(frames, held)]
            wanted = {7: object_index(object_rows), 8: key_directory(pages, len(keys))}
            for kind, (offset, head_hash) in rows.items():
                frame = by_offset.get(offset)
                need(frame and frame.kind == kind and frame.segment == c.segment, "index", c.at + 80)
                head = wanted[kind][:16] + b"".join(
                    blake3(wanted[kind][i:i + 16384]).digest() for i in range(16, len(wanted[kind]), 16384))
                need(frame.payload == head + wanted[kind][16:], "index", offset + 80)
                need(blake3(head).digest() == head_hash, "index", offset + 80)
                named.add(offset)
        for frame in self.frames:
            need(frame.kind not in (6, 7, 8) or frame.at in named, "index", frame.at)

    # Step 6: signatures. Who made them is not judged here.
    def signatures(self):
        self.signed, newest, uncovered = [], None, False
        commits = {c.at: c for c in self.commits}
        for frame in self.frames:
            base = frame.at + 80
            if frame.kind == 9:
                c, row = commits[frame.at], (newest.at, newest.hash) if newest else None
                found = next(((at, digest) for kind, at, digest in c.sections if kind == 10), None)
                need(found == row if c.footer else not uncovered, "signature", frame.at)
                uncovered = False
            if frame.kind != 10:
                continue
            body, at = frame.payload, 8
            need(len(body) >= 8, "truncated", base)
            for _ in range(frame.items):
                item, end = cbor(body, at, base)
                shape = isinstance(item, list) and len(item) == 4
                need(shape, "signature" if isinstance(item, list) else "cbor", base + at)
                size, origin, form, value = item
                typed = type(size) is int and size >= 0 and isinstance(origin, str) and type(form) is int and form >= 0
                need(typed and isinstance(value, bytes), "cbor", base + at)
                need(value, "signature", base + at)
                need(len(value) <= 65535, "limit", base + at)
                covered = min((c for c in self.commits if c.at > frame.at), key=lambda c: c.at)
                need(size in self.sealed and size <= covered.log_size, "signature", base)
                self.signed.append((size, origin, form, value))
                at = end
            need(at == len(body), "trailing", base + at)
            need(unpack_from("<Q", body)[0] == (newest.at if newest else 0), "signature", base)
            newest, uncovered = frame, True


def object_index(rows):
    bits = min(30, max(2, max(len(rows), 1).bit_length() - 2))
    fanout = [0] * (1 << bits)
    for prefix, _ in rows:
        fanout[int.from_bytes(prefix, "big") >> 64 - bits] += 1
    for bucket in range(1, len(fanout)):
        fanout[bucket] += fanout[bucket - 1]
    region = pack(f"<{len(fanout)}I", *fanout) + b"".join(prefix + pack("<Q", at) for prefix, at in rows)
    return pack("<QQ", len(rows), bits) + region


def indexed(commit):
    """[5.9] Whether a footer has an index; the row of signatures is none."""
    return any(kind in (7, 8) for kind, _, _ in commit.sections)


def key_directory(pages, keys):
    rows, text = b"", b""
    for frame, key in pages:
        rows += pack("<Q8sII", frame.at, frame.check, len(text), len(key))
        text += key
    return pack("<QQ", len(pages), keys) + rows + text


def key_rows(frame):
    """[5.5]"""
    rows, at, before, body, base = [], 0, b"", frame.body, frame.at + 80
    for _ in range(frame.items):
        shared, at = uvarint(body, at, base)
        length, at = uvarint(body, at, base)
        need(shared <= len(before) and shared + length <= 4097, "length", base + at)
        need(at + length + 16 <= len(body), "truncated", base + at)
        key = before[:shared] + body[at:at + length]
        where, check = unpack_from("<Q8s", body, at + length)
        longest = next((i for i, (a, b) in enumerate(zip(before, key)) if a != b), min(len(before), len(key)))
        need(len(key) >= 2 and longest == shared and before < key and where >> 24, "index", base + at)
        at, before = at + length + 16, key
        rows.append((key, (where, check)))
    need(at == len(body), "trailing", base + at)
    return rows


def main(arguments):
    if len(arguments) < 2 or arguments[0] not in ("verify", "list", "cat"):
        sys.exit(__doc__)
    try:
        with open(arguments[1], "rb") as file:
            found = Pack(file.read())
    except Fault as fault:
        sys.exit(str(fault))
    if arguments[0] == "verify":
        last, seal = found.commits[-1], found.seal
        print(f"ok generation={last.generation} log_size={found.tree.size} log_root={found.tree.root().hex()}"
              f" map_root={seal[2][1].hex() if seal else '-'} torn={found.torn}")
    elif arguments[0] == "list":
        for key, (entry, _) in sorted(found.live.items()):
            text = "".join(chr(b) if 33 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in key[1:])
            print(key[0], entry[4].hex() if entry[4] else "-", entry[5], text)
    else:
        key = bytes([int(arguments[3]) if arguments[3:] else 0]) + arguments[2].encode("utf-8", "surrogateescape")
        if key not in found.live or found.live[key][0][4] is None:
            sys.exit("no such key, or it has no content")
        name = found.live[key][0][4]
        sys.stdout.buffer.write(b"" if name == EMPTY else found.objects[name][1])


if __name__ == "__main__":
    main(sys.argv[1:])
