//! Objects are read from the store: those that are looked for at the same time, together.
//!
//! After a failover all objects of an instance that are in use are looked for at once. Their rows lie beside one another, often many in a
//! block, and in each of the files that were not merged yet: one scan over all of them costs little more than a scan for one. Where too
//! much that nobody looks for lies between them, it ends early, and what it has not come to is read object by object.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::state::{Held, StateError, Ticket};

/// Scans for several objects that are under way at a time. While they are, others gather: few, since many that begin at the same time
/// would read the same.
const MAX_SCANS: usize = 2;

/// Objects that are read alone at a time.
const MAX_ALONE: usize = 32;

/// The most that the rows of one object may take, bytes: above the largest object that an application can allow, with all that it may
/// remember.
const MAX_ROWS_BYTES: usize = 256 << 20;

/// How much a scan for several objects goes over, bytes.
const TOGETHER_BYTES: usize = 8 << 20;

/// The rows of an object, in the order of keys.
pub(super) type Rows = Result<Vec<(Bytes, Bytes)>, StateError>;

/// An object that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    number: u64,
    /// Of its keys, and of no others.
    prefix: Bytes,
}

/// What is read, and what is to be.
#[derive(Default)]
pub(super) struct Loads {
    waiting: Vec<Wanted>,
    /// Too much lies between them.
    scattered: VecDeque<Wanted>,
    under_way: FuturesUnordered<BoxFuture<'static, (Way, Read)>>,
    scans: usize,
    alone: usize,
}

/// How objects are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Together,
    Alone,
}

/// What a scan has come to.
struct Read {
    found: Vec<(u64, Rows)>,
    /// Too much lies between them.
    left: Vec<Wanted>,
    /// There was just too much for one scan.
    again: Vec<Wanted>,
}

impl Loads {
    pub(super) fn push(&mut self, number: u64, prefix: Bytes) {
        self.waiting.push(Wanted { number, prefix });
    }

    /// Begins to read what waits, as far as `is_wanted` says that it is wanted still, once `before` is durable.
    pub(super) fn begin(
        &mut self,
        held: &Held,
        before: Option<&Ticket>,
        mut is_wanted: impl FnMut(u64) -> bool,
    ) {
        loop {
            let (mut wanted, way) = if self.scans < MAX_SCANS && !self.waiting.is_empty() {
                (std::mem::take(&mut self.waiting), Way::Together)
            } else if self.alone < MAX_ALONE
                && let Some(one) = self.scattered.pop_front()
            {
                (vec![one], Way::Alone)
            } else {
                return;
            };
            wanted.retain(|it| is_wanted(it.number));
            if wanted.is_empty() {
                continue;
            }
            *self.under_way_of(way) += 1;
            let (held, before) = (held.clone(), before.cloned());
            let read = async move {
                let found = match before {
                    Some(before) => before.durable().await,
                    None => Ok(()),
                };
                match found {
                    Ok(()) => read(&held, wanted).await,
                    Err(error) => failed(&wanted, &error),
                }
            };
            let read = async move { (way, read.await) };
            self.under_way.push(read.boxed());
        }
    }

    fn under_way_of(&mut self, way: Way) -> &mut usize {
        match way {
            Way::Together => &mut self.scans,
            Way::Alone => &mut self.alone,
        }
    }

    /// What was read next, which may be nothing; there may be more to [`begin`](Self::begin) then. Can be dropped and called again.
    pub(super) async fn next(&mut self) -> Vec<(u64, Rows)> {
        match self.under_way.next().await {
            Some((way, read)) => {
                *self.under_way_of(way) -= 1;
                self.scattered.extend(read.left);
                self.waiting.extend(read.again);
                read.found
            }
            None => std::future::pending().await,
        }
    }
}

async fn read(held: &Held, mut wanted: Vec<Wanted>) -> Read {
    wanted.sort_by(|a, b| a.prefix.cmp(&b.prefix));
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
        return failed(&wanted, &StateError::Closed);
    };
    let keys = first.prefix.clone()..after(&last.prefix);
    if let [alone] = wanted.as_slice() {
        let rows = match held.scan(keys, MAX_ROWS_BYTES).await {
            Ok((rows, None)) => Ok(rows),
            Ok((_, Some(_))) => Err(StateError::TooLarge),
            Err(error) => Err(error),
        };
        return Read {
            found: vec![(alone.number, rows)],
            left: Vec::new(),
            again: Vec::new(),
        };
    }
    match held.scan(keys, TOGETHER_BYTES).await {
        Ok((rows, end)) => go_on(share_out(&rows, end.as_ref(), wanted), &rows),
        Err(error) => failed(&wanted, &error),
    }
}

fn failed(wanted: &[Wanted], error: &StateError) -> Read {
    let of = |wanted: &Wanted| (wanted.number, Err(error.clone()));
    Read {
        found: wanted.iter().map(of).collect(),
        left: Vec::new(),
        again: Vec::new(),
    }
}

/// Gives each object its rows, as far as `rows` go: up to `end`, if they are not all.
fn share_out(rows: &[(Bytes, Bytes)], end: Option<&Bytes>, wanted: Vec<Wanted>) -> Read {
    let mut read = Read {
        found: Vec::new(),
        left: Vec::new(),
        again: Vec::new(),
    };
    for wanted in wanted {
        let after = after(&wanted.prefix);
        if end.is_some_and(|end| *end < after) {
            read.left.push(wanted);
            continue;
        }
        let first = rows.partition_point(|(key, _)| *key < wanted.prefix);
        let last = rows.partition_point(|(key, _)| *key < after);
        let own = rows.get(first..last).unwrap_or_default().to_vec();
        read.found.push((wanted.number, Ok(own)));
    }
    read
}

/// Whether what a scan has not come to is worth another scan. Each finds something, or has one object less to find.
fn go_on(mut read: Read, rows: &[(Bytes, Bytes)]) -> Read {
    let found = read.found.iter().filter_map(|(_, rows)| rows.as_ref().ok());
    let useful: usize = found.map(|rows| size(rows)).sum();
    if read.found.is_empty() {
        // The first one by itself is more than a scan goes over, or what lies before it.
        read.again = read.left.split_off(read.left.len().min(1));
    } else if useful >= size(rows) / 4 {
        read.again = std::mem::take(&mut read.left);
    }
    read
}

fn size(rows: &[(Bytes, Bytes)]) -> usize {
    rows.iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}

/// The least key that is after all that begin with `prefix`.
fn after(prefix: &Bytes) -> Bytes {
    let mut after = BytesMut::from(prefix.as_ref());
    while let Some(last) = after.last_mut() {
        if let Some(next) = last.checked_add(1) {
            *last = next;
            break;
        }
        after.truncate(after.len() - 1);
    }
    after.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(prefixes: &[&'static str]) -> Vec<Wanted> {
        let of = |(number, prefix): (usize, &&'static str)| Wanted {
            number: u64::try_from(number).unwrap(),
            prefix: Bytes::from_static(prefix.as_bytes()),
        };
        prefixes.iter().enumerate().map(of).collect()
    }

    fn rows(keys: &[&'static str]) -> Vec<(Bytes, Bytes)> {
        let row = |key: &&'static str| (Bytes::from_static(key.as_bytes()), Bytes::new());
        keys.iter().map(row).collect()
    }

    fn shared_out(
        keys: &[&'static str],
        end: Option<&'static str>,
    ) -> (Vec<(u64, Rows)>, Vec<u64>) {
        let end = end.map(|end| Bytes::from_static(end.as_bytes()));
        let wanted = wanted(&["b", "d", "d", "f"]);
        let read = share_out(&rows(keys), end.as_ref(), wanted);
        let left = read.left.iter().map(|it| it.number).collect();
        (read.found, left)
    }

    #[test]
    fn each_object_gets_its_own_rows() {
        let (found, left) = shared_out(&["a1", "b1", "b2", "c", "d1", "e", "f1"], None);
        let all = [&["b1", "b2"][..], &["d1"], &["d1"], &["f1"]];
        for (number, own) in all.iter().enumerate() {
            assert_eq!(found[number], (number as u64, Ok(rows(own))));
        }
        assert!(left.is_empty());
        // One that is not there has none.
        let (found, _) = shared_out(&["b1"], None);
        assert_eq!(found[3], (3, Ok(Vec::new())));
    }

    #[test]
    fn what_a_scan_has_not_come_to_is_left() {
        let left = |end| shared_out(&["b1", "b2", "c"], Some(end)).1;
        assert_eq!(left("b3"), [0, 1, 2, 3]);
        assert_eq!(left("c"), [1, 2, 3]);
        assert_eq!(left("d5"), [1, 2, 3]);
        assert_eq!(left("e"), [3]);
        assert_eq!(left("g"), [0; 0]);
    }

    #[test]
    fn what_is_left_is_scanned_for_again_where_that_finds_much() {
        let all = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "b1", "d1"];
        let gone_on = |keys: &[&'static str], end: &'static str| {
            let rows = rows(keys);
            let end = Bytes::from_static(end.as_bytes());
            let read = share_out(&rows, Some(&end), wanted(&["b", "d", "f", "g"]));
            let read = go_on(read, &rows);
            let numbers = |wanted: &[Wanted]| wanted.iter().map(|it| it.number).collect::<Vec<_>>();
            (read.found.len(), numbers(&read.left), numbers(&read.again))
        };
        assert_eq!(gone_on(&all[6..], "e"), (2, vec![], vec![2, 3]));
        // Most of it was for nobody.
        assert_eq!(gone_on(&all, "e"), (2, vec![2, 3], vec![]));
        // The first one is large: it alone is read alone.
        assert_eq!(gone_on(&["b1", "b2"], "b3"), (0, vec![0], vec![1, 2, 3]));
    }

    #[test]
    fn after_a_prefix_comes_what_does_not_begin_with_it() {
        let of = |prefix: &'static [u8]| after(&Bytes::from_static(prefix));
        assert_eq!(of(b"ab"), "ac");
        assert_eq!(of(b"a\xff\xff"), "b");
        assert!(of(b"ab") > Bytes::from_static(b"ab\xff\xff\xff"));
    }
}
