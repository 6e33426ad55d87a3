//! Fragments become messages: RFC 7016 section 3.6.3.3.
//!
//! Fragments that come in their order go straight into the message that is open; the others are held until those before them have come,
//! or never will. In network order a message is handed over as soon as all of its fragments are there.
//!
//! Always: what is held is above the number up to which all has come; an open message ends at that number.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::super::Order;
use crate::wire::user_data::Part;

/// What a held fragment or a finished message costs beside its data, in bytes: so that empty ones are not free.
pub(super) const OVERHEAD: usize = 64;

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Something is missing here that will not come.
    Gap,
    /// A whole message.
    Message(Bytes),
}

impl Item {
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Gap => 0,
            Self::Message(payload) => payload.len() + OVERHEAD,
        }
    }
}

#[derive(Clone, Debug)]
struct Piece {
    part: Part,
    data: Bytes,
}

/// Held fragments of one message without a hole between them.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: u64,
    begins: bool,
    ends: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Assembly {
    order: Order,
    /// All up to this number has come or never will.
    base: u64,
    open: Option<BytesMut>,
    held: BTreeMap<u64, Piece>,
    held_bytes: usize,
    /// What is held, by the first number of each run. In network order alone.
    runs: BTreeMap<u64, Run>,
    /// A gap was told, and no message since.
    gap_told: bool,
    out: VecDeque<Item>,
}

impl Assembly {
    pub(super) fn shrink(&mut self) {
        self.out.shrink_to_fit();
    }

    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            base: 0,
            open: None,
            held: BTreeMap::new(),
            held_bytes: 0,
            runs: BTreeMap::new(),
            gap_told: false,
            out: VecDeque::new(),
        }
    }

    /// Bytes of the message that is not complete.
    pub(super) fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, BytesMut::len)
    }

    /// What is held costs so much.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// What has become whole since it was asked for.
    pub(super) fn next_item(&mut self) -> Option<Item> {
        self.out.pop_front()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self {
            base: self.base,
            ..Self::new(self.order)
        };
    }

    /// Changes the order. What is held is looked through again.
    pub(super) fn set_order(&mut self, order: Order) {
        if order == self.order {
            return;
        }
        self.order = order;
        self.runs.clear();
        if order == Order::Network {
            self.held_bytes = 0;
            for (number, piece) in std::mem::take(&mut self.held) {
                self.hold(number, piece);
            }
        }
    }

    /// Takes a fragment that has not come before.
    pub(super) fn store(&mut self, number: u64, part: Part, data: &[u8]) {
        if number == self.base + 1 {
            self.base = number;
            self.append(part, data);
        } else if self.order == Order::Network && part == Part::Whole {
            self.finish(Bytes::copy_from_slice(data));
        } else {
            let data = Bytes::copy_from_slice(data);
            self.hold(number, Piece { part, data });
        }
    }

    /// All up to `number` has come, or will not come. `lost` if the number of something that will not come is new among them.
    pub(super) fn advance(&mut self, number: u64, lost: bool) {
        if lost && self.order == Order::Network {
            self.gap();
        }
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > number {
                break;
            }
            let (at, piece) = entry.remove_entry();
            self.held_bytes -= piece.data.len() + OVERHEAD;
            if at != self.base + 1 {
                self.break_off();
            }
            self.base = at;
            self.append(piece.part, &piece.data);
        }
        if self.base < number {
            self.break_off();
            self.base = number;
        }
        // The number behind is missing, so no run reaches beyond.
        while let Some(run) = self.runs.first_entry() {
            if *run.key() > number {
                break;
            }
            run.remove();
        }
    }

    fn append(&mut self, part: Part, data: &[u8]) {
        match part {
            Part::Whole | Part::Begin => {
                if self.open.take().is_some() {
                    self.gap();
                }
                if part == Part::Whole {
                    self.finish(Bytes::copy_from_slice(data));
                } else {
                    self.open = Some(BytesMut::from(data));
                }
            }
            Part::Middle | Part::End => {
                let Some(mut open) = self.open.take() else {
                    self.gap();
                    return;
                };
                open.extend_from_slice(data);
                if part == Part::End {
                    self.finish(open.freeze());
                } else {
                    self.open = Some(open);
                }
            }
        }
    }

    /// The fragment behind the last one is not there. In network order it may have been handed over long ago.
    fn break_off(&mut self) {
        if self.open.take().is_some() || self.order == Order::InOrder {
            self.gap();
        }
    }

    fn hold(&mut self, number: u64, piece: Piece) {
        let part = piece.part;
        self.held_bytes += piece.data.len() + OVERHEAD;
        self.held.insert(number, piece);
        if self.order == Order::InOrder {
            return;
        }
        let mut first = number;
        let mut run = Run {
            last: number,
            begins: part.begins(),
            ends: part.ends(),
        };
        if !run.begins
            && let Some((start, before)) = self.runs.range(..number).next_back()
            && before.last + 1 == number
            && !before.ends
        {
            first = *start;
            run.begins = before.begins;
        }
        if !run.ends
            && let Some(next) = number.checked_add(1)
            && let Some(after) = self.runs.get(&next)
            && !after.begins
        {
            run.last = after.last;
            run.ends = after.ends;
            self.runs.remove(&next);
        }
        if run.begins && run.ends {
            self.runs.remove(&first);
            self.finish_run(first, run.last);
        } else {
            self.runs.insert(first, run);
        }
    }

    fn finish_run(&mut self, first: u64, last: u64) {
        let mut message = BytesMut::new();
        for number in first..=last {
            if let Some(piece) = self.held.remove(&number) {
                self.held_bytes -= piece.data.len() + OVERHEAD;
                message.extend_from_slice(&piece.data);
            }
        }
        self.finish(message.freeze());
    }

    fn finish(&mut self, message: Bytes) {
        self.gap_told = false;
        self.out.push_back(Item::Message(message));
    }

    fn gap(&mut self) {
        if !self.gap_told {
            self.gap_told = true;
            self.out.push_back(Item::Gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fragments by their letters: `w` whole, `b` begin, `m` middle, `e` end, and what comes out.
    fn run(order: Order, steps: &[(u64, char)], base: &[u64]) -> Vec<String> {
        let mut assembly = Assembly::new(order);
        let mut cumulative = 0;
        for (&(number, letter), &next) in steps.iter().zip(base) {
            let part = match letter {
                'w' => Part::Whole,
                'b' => Part::Begin,
                'm' => Part::Middle,
                'e' => Part::End,
                _ => {
                    assembly.advance(next, true);
                    cumulative = next;
                    continue;
                }
            };
            assembly.store(number, part, format!("{number}").as_bytes());
            if next > cumulative {
                assembly.advance(next, false);
                cumulative = next;
            }
        }
        assert_eq!(
            assembly.held_bytes(),
            assembly
                .held
                .values()
                .map(|piece| piece.data.len() + OVERHEAD)
                .sum::<usize>()
        );
        std::iter::from_fn(|| assembly.next_item())
            .map(|item| match item {
                Item::Gap => "gap".to_owned(),
                Item::Message(text) => String::from_utf8(text.to_vec()).unwrap(),
            })
            .collect()
    }

    #[test]
    fn messages_come_out_in_order() {
        use Order::InOrder;
        let b = |letters: &str| -> Vec<(u64, char)> { (1..).zip(letters.chars()).collect() };
        assert_eq!(
            run(InOrder, &b("wbmew"), &[1, 2, 3, 4, 5]),
            ["1", "234", "5"]
        );
        assert_eq!(
            run(
                InOrder,
                &[(5, 'w'), (4, 'e'), (2, 'b'), (3, 'm'), (1, 'w')],
                &[0, 0, 0, 0, 5]
            ),
            ["1", "234", "5"]
        );
        // 3 will not come: what it belonged to is gone, and that is told once.
        assert_eq!(
            run(
                InOrder,
                &[(1, 'w'), (2, 'b'), (4, 'e'), (5, 'w'), (3, '-')],
                &[1, 2, 0, 0, 5]
            ),
            ["1", "gap", "5"]
        );
        // A message that breaks off without a hole.
        assert_eq!(
            run(InOrder, &b("bmwme"), &[1, 2, 3, 4, 5]),
            ["gap", "3", "gap"]
        );
        // A forward number beyond what has come.
        assert_eq!(
            run(InOrder, &[(1, 'b'), (0, '-'), (10, 'w')], &[1, 9, 10]),
            ["gap", "10"]
        );
    }

    #[test]
    fn network_order_hands_over_what_is_whole() {
        use Order::Network;
        assert_eq!(
            run(
                Network,
                &[(5, 'w'), (4, 'e'), (2, 'b'), (3, 'm'), (1, 'w')],
                &[0, 0, 0, 0, 5]
            ),
            ["5", "234", "1"]
        );
        // The hole at 3 is never filled.
        assert_eq!(
            run(
                Network,
                &[
                    (2, 'b'),
                    (4, 'e'),
                    (5, 'b'),
                    (6, 'e'),
                    (1, 'w'),
                    (3, '-'),
                    (7, 'w')
                ],
                &[0, 0, 0, 0, 2, 6, 7]
            ),
            ["56", "1", "gap", "7"]
        );
        // A run grows together from both sides, and into the open message.
        assert_eq!(
            run(
                Network,
                &[(3, 'm'), (5, 'm'), (4, 'm'), (6, 'e'), (2, 'b'), (1, 'w')],
                &[0, 0, 0, 0, 0, 6]
            ),
            ["23456", "1"]
        );
        assert_eq!(
            run(
                Network,
                &[(1, 'b'), (3, 'e'), (4, 'w'), (2, 'm')],
                &[1, 0, 0, 4]
            ),
            ["4", "123"]
        );
    }

    #[test]
    fn the_order_may_change_while_fragments_are_held() {
        let mut assembly = Assembly::new(Order::InOrder);
        for (number, part) in [(2, Part::Begin), (3, Part::End), (4, Part::Whole)] {
            assembly.store(number, part, &[number as u8]);
        }
        assert_eq!(assembly.next_item(), None);
        assembly.set_order(Order::Network);
        assert_eq!(
            assembly.next_item(),
            Some(Item::Message(Bytes::from_static(&[2, 3])))
        );
        assert_eq!(
            assembly.next_item(),
            Some(Item::Message(Bytes::from_static(&[4])))
        );
        assert_eq!(assembly.held_bytes(), 0);
    }
}
