//! Sessions beside collections, step by step, in every order.
//!
//! The protocol of `spec/store.md` as a model: small steps, all interleavings of two writers and a
//! collector with a crash anywhere. A content that a ref names must be in a segment, always. Each rule
//! of the protocol can be left out, and then some order must lose a content: no rule is there without
//! need. `store_schedule.rs` holds the code itself to it.
#![allow(clippy::unwrap_used, missing_docs, reason = "a failed unwrap fails the test")]

use std::collections::HashSet;

/// What the protocol demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A session says that it is there before it looks at what is condemned.
    AnnounceFirst,
    /// It lists the segments after it has looked at what is condemned.
    ListAfterwards,
    /// It relies on nothing in condemned segments.
    ShunCondemned,
    /// The segment that a writer has kept from an earlier session is looked at like any other.
    LookAtOwn,
    /// Refs change before the session ends.
    RefsBeforeEnd,
    /// What a ref is set to was put or kept in the same session.
    KeepFirst,
    /// A collection waits for sessions that began before it condemned.
    Wait,
    /// It marks again after it has waited.
    MarkAgain,
    /// It copies before it removes.
    CopyFirst,
    /// Epochs go on rising when the list of condemned segments is empty.
    EpochsRise,
}

const RULES: [Rule; 10] = [
    Rule::AnnounceFirst,
    Rule::ListAfterwards,
    Rule::ShunCondemned,
    Rule::LookAtOwn,
    Rule::RefsBeforeEnd,
    Rule::KeepFirst,
    Rule::Wait,
    Rule::MarkAgain,
    Rule::CopyFirst,
    Rule::EpochsRise,
];

/// Sets of segments and of contents: one bit each.
type Bits = u16;

const WRITERS: usize = 2;
const SEGMENTS: usize = 12;
/// Collections that are begun, at most.
const ROUNDS: u8 = 2;

/// What each writer does, session by session: the content that its ref is set to, and how.
const SCRIPT: [[Turn; 2]; WRITERS] = [
    // The first content is there already, and nothing names it.
    [Turn::Put(0), Turn::Copy(1)],
    // What was put and forgotten is put again, by the writer that still has the segment open.
    [Turn::PutAndForget(1), Turn::Put(1)],
];

#[derive(Clone, Copy)]
enum Turn {
    Put(u8),
    PutAndForget(u8),
    /// Sets a ref to a content if it is there, without its bytes.
    Copy(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Writer {
    step: u8,
    turn: u8,
    epoch: u8,
    condemned: Bits,
    view: Bits,
    own: Option<u8>,
    /// The ref is set when the time comes.
    found: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Collector {
    step: u8,
    round: u8,
    epoch: u8,
    victims: Bits,
    live: Bits,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// What is published.
    epoch: u8,
    condemned: Bits,
    /// Segments that have a name, and what each holds.
    named: Bits,
    holds: [Bits; SEGMENTS],
    made: u8,
    refs: Bits,
    /// What session files say; none if nobody has the lock, or no session is on.
    sessions: [Option<u8>; WRITERS],
    writers: [Writer; WRITERS],
    collector: Collector,
    crashes: u8,
}

impl State {
    fn first() -> Self {
        let mut holds = [0; SEGMENTS];
        holds[0] = 1;
        Self {
            epoch: 0,
            condemned: 0,
            named: 1,
            holds,
            made: 1,
            refs: 0,
            sessions: [None; WRITERS],
            writers: Default::default(),
            collector: Collector::default(),
            crashes: 0,
        }
    }

    fn held_by(&self, segments: Bits) -> Bits {
        let held = (0..SEGMENTS).filter(|at| segments & 1 << at != 0).map(|at| self.holds[at]);
        held.fold(0, |all, holds| all | holds)
    }

    fn make_segment(&mut self) -> u8 {
        let at = self.made;
        self.made += 1;
        self.named |= 1 << at;
        at
    }

    /// The states that may come next, but for crashes.
    fn next(&self, without: Option<Rule>) -> Vec<Self> {
        let mut next: Vec<Self> =
            (0..WRITERS).filter_map(|at| self.writer_step(at, without)).collect();
        next.extend(self.collector_step(without));
        if self.crashes > 0 {
            return next;
        }
        // A process is killed: its locks are free, and all that it knew is gone.
        for at in 0..WRITERS {
            if self.writers[at].step > 0 {
                let mut after = self.clone();
                after.crashes += 1;
                after.sessions[at] = None;
                after.writers[at] = Writer { turn: self.writers[at].turn + 1, ..Writer::default() };
                next.push(after);
            }
        }
        if self.collector.step > 0 {
            let mut after = self.clone();
            after.crashes += 1;
            after.collector = Collector { round: self.collector.round, ..Collector::default() };
            next.push(after);
        }
        next
    }

    fn writer_step(&self, at: usize, without: Option<Rule>) -> Option<Self> {
        let has = |rule| without != Some(rule);
        let turn = *SCRIPT[at].get(usize::from(self.writers[at].turn))?;
        let mut after = self.clone();
        let mut me = self.writers[at].clone();
        me.step += 1;
        let (epoch, condemned) = (self.epoch, self.condemned);
        let content = match turn {
            Turn::Put(content) | Turn::PutAndForget(content) | Turn::Copy(content) => 1 << content,
        };
        match self.writers[at].step {
            0 if has(Rule::AnnounceFirst) => after.sessions[at] = Some(0),
            1 if has(Rule::ListAfterwards) => (me.epoch, me.condemned) = (epoch, condemned),
            2 if !has(Rule::ListAfterwards) => (me.epoch, me.condemned) = (epoch, condemned),
            1 | 2 => me.view = self.named,
            3 => after.sessions[at] = Some(me.epoch),
            4 => after.put(&mut me, turn, content, without),
            5 if me.found && has(Rule::RefsBeforeEnd) => after.refs |= content,
            6 => after.sessions[at] = None,
            7 if me.found && !has(Rule::RefsBeforeEnd) => after.refs |= content,
            8 => {
                if matches!(turn, Turn::PutAndForget(_)) {
                    after.refs &= !content;
                }
                me = Writer { turn: me.turn + 1, own: me.own, ..Writer::default() };
            }
            _ => {}
        }
        after.writers[at] = me;
        Some(after)
    }

    /// Puts or keeps a content.
    fn put(&mut self, me: &mut Writer, turn: Turn, content: Bits, without: Option<Rule>) {
        let has = |rule| without != Some(rule);
        let shunned = if has(Rule::ShunCondemned) { me.condemned } else { 0 };
        let trusted = me.view & !shunned;
        if has(Rule::LookAtOwn) && me.own.is_some_and(|own| trusted & 1 << own == 0) {
            me.own = None;
        }
        let own = me.own.map_or(0, |own| 1 << own);
        if matches!(turn, Turn::Copy(_)) {
            me.found = self.held_by(self.named) & content != 0;
            if !me.found || !has(Rule::KeepFirst) {
                return;
            }
        }
        me.found = true;
        if self.held_by(trusted | own) & content == 0 {
            let own = me.own.unwrap_or_else(|| self.make_segment());
            me.own = Some(own);
            self.holds[usize::from(own)] |= content;
        }
    }

    fn collector_step(&self, without: Option<Rule>) -> Option<Self> {
        let has = |rule| without != Some(rule);
        let mut after = self.clone();
        let me = &mut after.collector;
        me.step += 1;
        match self.collector.step {
            0 => {
                if self.collector.round >= ROUNDS {
                    return None;
                }
                me.round += 1;
                me.live = self.refs;
                if self.condemned != 0 {
                    (me.epoch, me.victims, me.step) = (self.epoch, self.condemned, 2);
                } else {
                    // Whichever are chosen, the protocol holds: here all, or the oldest.
                    let oldest = self.named & self.named.wrapping_neg();
                    me.victims = if me.round == 1 { self.named } else { oldest };
                }
            }
            1 => {
                after.epoch += 1;
                me.epoch = after.epoch;
                after.condemned = me.victims;
            }
            2 => {
                let is_older = |state: &Option<u8>| state.is_some_and(|began| began < me.epoch);
                if has(Rule::Wait) && self.sessions.iter().any(is_older) {
                    return None;
                }
            }
            3 if has(Rule::MarkAgain) => me.live = self.refs,
            4 if !has(Rule::CopyFirst) => after.named &= !self.collector.victims,
            5 if has(Rule::CopyFirst) => after.named &= !self.collector.victims,
            4 | 5 => {
                let (victims, live) = (me.victims, me.live);
                let wanted = live & self.held_by(victims) & !self.held_by(self.named & !victims);
                if wanted != 0 {
                    let at = after.make_segment();
                    after.holds[usize::from(at)] = wanted;
                }
            }
            6 => {
                after.condemned = 0;
                if !has(Rule::EpochsRise) {
                    after.epoch = 0;
                }
                after.collector = Collector { round: me.round, ..Collector::default() };
            }
            _ => {}
        }
        Some(after)
    }
}

/// Visits every state that can be reached; gives their number, or one in which a content is lost.
fn explore(without: Option<Rule>) -> Result<usize, Box<State>> {
    let mut seen = HashSet::from([State::first()]);
    let mut open: Vec<State> = seen.iter().cloned().collect();
    while let Some(state) = open.pop() {
        for after in state.next(without) {
            if after.refs & !after.held_by(after.named) != 0 {
                return Err(Box::new(after));
            }
            if seen.insert(after.clone()) {
                open.push(after);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_steps_loses_a_content() {
    let states = explore(None).unwrap();
    println!("{states} states");
    assert!(states > 100_000, "only {states} states were visited");
}

#[test]
fn without_any_one_rule_some_order_does() {
    for rule in RULES {
        let lost = explore(Some(rule));
        assert!(lost.is_err(), "{rule:?} is not needed: {} states", lost.unwrap());
    }
}
