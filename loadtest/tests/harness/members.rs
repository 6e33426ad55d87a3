//! Callers and users of shared objects, against a server that is right and against some that are not.

use std::time::Duration;

use headwater_loadtest::members::callers::{CallOptions, Callers};
use headwater_loadtest::members::objects::{Dialect, ObjectOptions, Users};
use headwater_loadtest::members::{Encodings, MemberOptions};
use headwater_loadtest::report::{CallSummary, ObjectSummary};
use headwater_loadtest::target::Target;

use crate::commands::{finish, read_json, start};
use crate::room::Room;
use crate::swarm::until;

fn members(url: &str, count: usize) -> MemberOptions {
    MemberOptions {
        count,
        ramp: 0,
        threads: 2,
        encodings: Encodings::Both,
        ..MemberOptions::new(vec![Target::with_name(url, "").unwrap()])
    }
}

async fn call(options: CallOptions, calls: u64) -> CallSummary {
    let callers = Callers::start(options).unwrap();
    until("callers connect", || callers.have_joined()).await;
    callers.begin();
    until("calls are answered", || {
        let counts = callers.counts();
        counts.answered >= calls || counts.ready == 0
    })
    .await;
    callers.settle();
    until("nothing is under way", || callers.have_settled()).await;
    callers.report()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_timed_and_their_results_compared() {
    let room = Room::start().await;
    let summary = call(CallOptions::new(members(&room.url("room"), 6)), 300).await;
    assert!(summary.is_without_loss(), "{summary:?}");
    assert_eq!((summary.connected, summary.wrong), (6, 0));
    assert!(summary.calls >= 300 && summary.round_trip.count == summary.calls);
    assert!(summary.round_trip.p50_us < 1_000_000, "{summary:?}");

    let wrong = call(CallOptions::new(members(&room.url("wrong"), 2)), 10).await;
    assert_eq!(wrong.wrong, wrong.calls, "{wrong:?}");
    assert!(!wrong.is_without_loss());

    let unknown = CallOptions {
        method: "nothing".to_owned(),
        ..CallOptions::new(members(&room.url("room"), 2))
    };
    let unknown = call(unknown, 10).await;
    assert_eq!(unknown.failed, unknown.calls);
    assert!(unknown.errors[0].what.contains("NetConnection.Call.Failed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept_and_clients_are_called_back() {
    let room = Room::start().await;
    let options = CallOptions {
        method: "callMe".to_owned(),
        before: vec!["mine".to_owned()],
        rate: 400,
        in_flight: 8,
        ..CallOptions::new(members(&room.url("room"), 4))
    };
    let summary = call(options, 100).await;
    assert!(summary.is_without_loss(), "{summary:?}");
    assert_eq!(summary.called_back, summary.calls);
    // A tenth of a second more would be 40 more.
    assert!(
        summary.seconds > 0.2 && summary.achieved_per_s < 450.0,
        "{summary:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_are_refused_are_told_of() {
    let room = Room::start().await;
    let summary = call(CallOptions::new(members(&room.url("closed"), 3)), 1).await;
    assert_eq!((summary.connected, summary.calls), (0, 0));
    assert_eq!(summary.endings[0].count, 3);
    assert!(
        summary.endings[0]
            .what
            .contains("NetConnection.Connect.Rejected")
    );
}

async fn share(options: ObjectOptions, asked: u64) -> ObjectSummary {
    let users = Users::start(options).unwrap();
    until("objects are in use", || users.have_joined()).await;
    users.begin();
    until("enough is asked", || users.counts().asked >= asked).await;
    users.settle();
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..20 {
        if users.have_settled() {
            break;
        }
        looks.tick().await;
    }
    users.report()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_has_the_same_in_the_end_in_both_encodings_and_dialects() {
    let room = Room::start().await;
    for (dialect, rate, prefix) in [(Dialect::Player, 0, "a"), (Dialect::Proxy, 500, "b")] {
        let options = ObjectOptions {
            objects: 3,
            prefix: prefix.to_owned(),
            per_member: 2,
            writers: 4,
            slots: 2,
            rate,
            sends: 100,
            dialect,
            ..ObjectOptions::new(members(&room.url("room"), 12))
        };
        let summary = share(options, 300).await;
        assert!(summary.is_without_loss(), "{summary:?}");
        assert_eq!((summary.used, summary.objects), (12, 3));
        assert!(summary.sends > 0 && summary.confirmed > 100, "{summary:?}");
        assert_eq!(summary.confirmation.count, summary.confirmed);
        // Eight users of each object, of which one has written.
        assert_eq!(summary.seen, summary.confirmed * 7, "{summary:?}");
        assert_eq!(summary.seen_sends, summary.sends * 8);
        assert_eq!(summary.latency.count, summary.seen);
        assert!(summary.latency.p50_us < 1_000_000, "{summary:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_do_wrong_is_seen() {
    let room = Room::start().await;
    let options = |app: &str| ObjectOptions {
        prefix: app.to_owned(),
        sends: 50,
        rate: 50,
        ..ObjectOptions::new(members(&room.url(app), 4))
    };
    let first_is_no_writer = ObjectOptions {
        writers: 4,
        ..options("forgetful")
    };
    let forgetful = share(first_is_no_writer, 40).await;
    assert_eq!(forgetful.different_objects, 1, "{forgetful:?}");
    assert!(!forgetful.is_converged && forgetful.lost_changes == 0);

    let stutter = share(options("stutter"), 20).await;
    assert_eq!(stutter.repeated_sends, stutter.sends * 4, "{stutter:?}");
    assert!(stutter.is_converged && !stutter.is_without_loss());

    let refusing = ObjectOptions {
        sends: 0,
        ..options("readonly")
    };
    let refusing = share(refusing, 5).await;
    assert_eq!(
        (refusing.refused, refusing.confirmed),
        (refusing.changes, 0)
    );
    assert_eq!(refusing.statuses[0].what, "SharedObject.NoWriteAccess");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_is_looked_for_later() {
    let room = Room::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (url, record, json) = (room.url("room"), path("confirmed"), path("json"));
    let writing = start(&[
        "objects",
        &url,
        "--count",
        "6",
        "--writers",
        "3",
        "--slots",
        "2",
        "--rate",
        "0",
        "--persistent",
        "--seconds",
        "0.5",
        "--record",
        &record,
        "--json",
        &json,
        "--expect-no-loss",
    ]);
    let (code, stdout, stderr) = finish(writing).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("all have the same"), "{stdout}");
    let written = read_json(json.as_ref());
    assert!(written["confirmed"].as_u64().unwrap() > 6, "{written}");

    let verify = [
        "objects", &url, "--verify", &record, "--count", "2", "--json", &json,
    ];
    let (code, stdout, stderr) = finish(start(&verify)).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert_eq!(read_json(json.as_ref())["held"], 12);

    room.lose("load0", "w1.1");
    let (code, stdout, stderr) = finish(start(&verify)).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(
        stdout.contains("lost: load0 w1.1: nothing instead of"),
        "{stdout}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_a_command() {
    let room = Room::start().await;
    let json = tempfile::NamedTempFile::new().unwrap();
    let (url, path) = (room.url("room"), json.path().to_str().unwrap());
    let child = start(&[
        "callers",
        &url,
        "--count",
        "4",
        "--rate",
        "200",
        "--in-flight",
        "4",
        "--seconds",
        "0.5",
        "--argument",
        "user{n}",
        "--json",
        path,
        "--expect-no-loss",
    ]);
    let (code, stdout, stderr) = finish(child).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("round trip p99"), "{stdout}");
    assert!(read_json(json.path())["answered"].as_u64().unwrap() > 50);
}
