//! Shared objects while the store hangs or is full: temporary ones do not notice, changes of persistent ones wait and are confirmed when
//! the store takes them again, and nothing that was confirmed is lost.

use std::time::Duration;

use headwater_loadtest::members::objects::{Dialect, ObjectOptions, Users};
use headwater_loadtest::members::{Encodings, MemberOptions};
use headwater_loadtest::report::ObjectSummary;
use headwater_loadtest::target::Target;

use crate::a_disk_is_full::Stage;
use crate::applications::Hall;
use crate::shared_objects::share;
use crate::support::wait::{pause, until};

const LIMIT: Duration = Duration::from_secs(20);

fn options(urls: &[String], prefix: &str, is_persistent: bool) -> ObjectOptions {
    let targets = urls
        .iter()
        .map(|url| Target::with_name(url, "").expect("an address"));
    ObjectOptions {
        objects: 2,
        prefix: prefix.to_owned(),
        per_member: 2,
        writers: 4,
        rate: 100,
        is_persistent,
        ..ObjectOptions::new(MemberOptions {
            count: 6,
            ramp: 0,
            encodings: Encodings::Both,
            ..MemberOptions::new(targets.collect())
        })
    }
}

fn wait_for_more(what: &str, users: &Users, more: u64) {
    let before = users.counts().answered;
    until(what, LIMIT, || users.counts().answered >= before + more);
}

/// Waits until nothing is confirmed any more.
fn wait_for_rest(users: &Users) {
    let mut before = users.counts().answered;
    until("nothing is confirmed", LIMIT, || {
        pause(Duration::from_millis(500));
        let now = users.counts().answered;
        std::mem::replace(&mut before, now) == now
    });
}

/// Temporary and persistent objects at the same time, and a store that takes nothing for a while.
fn share_through(
    urls: &[String],
    persistent: ObjectOptions,
    stop: impl FnOnce(),
    go_on: impl FnOnce(),
) -> [ObjectSummary; 2] {
    let mut kept = None;
    let temporary = share(options(urls, "temporary", false), |temporary| {
        kept = Some(share(persistent, |persistent| {
            wait_for_more("all are confirmed", persistent, 50);
            stop();
            wait_for_rest(persistent);
            wait_for_more("temporary ones go on", temporary, 200);
            // Also one that nobody has used yet: it is not known whether there is a persistent one of its name. And in an instance that is
            // new, of a partition that was not open.
            let elsewhere: Vec<String> = (urls.iter())
                .map(|url| url.replace("/room", "/another"))
                .collect();
            for urls in [urls, &elsewhere] {
                let more = share(options(urls, "fresh", false), |fresh| {
                    wait_for_more("new ones can be used", fresh, 20);
                });
                assert!(more.is_without_loss(), "{}", more.table());
            }
            go_on();
            wait_for_more("persistent ones go on", persistent, 50);
        }));
    });
    [temporary, kept.expect("what was found")]
}

#[test]
fn a_store_that_hangs() {
    let mut hall = Hall::with(&[("chat", "")]);
    let urls = [hall.url(0, "chat/room"), hall.url(1, "chat/room")];
    let persistent = options(&urls, "persistent", true);
    let store = &hall.store;
    let found = share_through(&urls, persistent, || store.hang(), || store.go_on());
    for found in found {
        assert!(found.is_without_loss(), "{}", found.table());
    }
}

#[test]
fn a_disk_that_is_full() {
    let Some(Stage { mut node, disk }) = Stage::start(64 << 20, 0) else {
        return;
    };
    let urls = [node.url("live/room")];
    let folder = tempfile::tempdir().expect("a folder");
    let record = folder.path().join("confirmed");
    let persistent = ObjectOptions {
        record: Some(record.clone()),
        ..options(&urls, "persistent", true)
    };
    let found = share_through(&urls, persistent, || disk.fill(0), || disk.clear());
    for found in found {
        assert!(found.is_without_loss(), "{}", found.table());
    }
    // It is on the disk.
    node.kill();
    node.restart();
    let target = Target::with_name(&node.url("live/room"), "").expect("an address");
    let readers = Users::verify(MemberOptions::new(vec![target]), Dialect::Player, &record);
    let readers = readers.expect("clients");
    until("readers have the objects", LIMIT, || readers.have_joined());
    let left = readers.verified();
    assert!(left.is_without_loss(), "{}", left.table());
}
