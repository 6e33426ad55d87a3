//! Against origins in this process.

use headwater_media::name::DEFAULT_VHOST;
use headwater_proto::v1::application_server::ApplicationServer;

use super::*;
use crate::config::UpstreamSection;
use crate::testing::application::Applications;
use crate::testing::{Origins, PATIENCE};

struct Bench {
    origins: Origins,
    applications: Applications,
    policies: Policies,
}

impl Bench {
    async fn start() -> Self {
        Self::of(Applications::new()).await
    }

    async fn of(applications: Applications) -> Self {
        let origins = Origins::start(&["a", "b"], UpstreamSection::default(), |_, routes| {
            routes.add_service(ApplicationServer::new(applications.clone()))
        })
        .await;
        let live = ApplicationSection {
            flush_ms: 3,
            ..ApplicationSection::default()
        };
        let configured = BTreeMap::from([("live".to_owned(), live)]);
        let upstream = Arc::clone(&origins.upstream);
        let tasks = Tasks::new(origins.stop.child_token());
        let policies = Policies::new(&configured, upstream, tasks);
        Self {
            origins,
            applications,
            policies,
        }
    }

    /// Listens to changes from now on.
    async fn listen(&self) {
        let (probe, _) = self.look_up("probe").await;
        self.policies.start();
        self.applications.until_listened_to(1).await;
        // The first message is on its way, and says that everything may have changed.
        let changed = probe.state.subscribe();
        let listening = async {
            while changed.borrow().changes == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listening).await.unwrap();
        probe.settled().await;
    }

    async fn look_up(&self, name: &str) -> (Arc<Application>, Option<Verdict>) {
        let application = self.policies.look_up(DEFAULT_VHOST, name);
        let verdict = tokio::time::timeout(PATIENCE, application.settled()).await;
        (application, verdict.unwrap())
    }

    async fn verdict(&self, name: &str) -> Option<Verdict> {
        self.look_up(name).await.1
    }
}

fn flush_ms(verdict: Option<Verdict>) -> u64 {
    match verdict {
        Some(Verdict::Known(policy)) => policy.flush_ms,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_clients_cost_one_question() {
    let bench = Bench::start().await;
    bench
        .applications
        .store(DEFAULT_VHOST, "chat", "flush_ms = 7");
    bench.applications.hang(true);
    let waiting: Vec<_> = (0..1_000)
        .map(|_| bench.policies.look_up(DEFAULT_VHOST, "chat"))
        .collect();
    assert_eq!(waiting[0].verdict(), None);
    bench.applications.until_described(1).await;
    bench.applications.hang(false);
    for application in waiting {
        assert_eq!(flush_ms(application.settled().await), 7);
    }
    // And those who come after them none.
    let later = bench.policies.look_up(DEFAULT_VHOST, "chat");
    assert_eq!(flush_ms(later.verdict().expect("at once")), 7);
    assert_eq!(bench.applications.described(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_goes_before_what_is_configured() {
    let bench = Bench::start().await;
    let built_in = v1::ApplicationPolicy {
        version: 1,
        toml: "flush_ms = 9".to_owned(),
        stored: false,
    };
    for (name, policy, expected) in [
        ("live", None, Some(3)),
        ("live", Some(Response::Policy(built_in.clone())), Some(3)),
        ("live", Some(stored("flush_ms = 8")), Some(8)),
        // A key of a newer origin.
        ("live", Some(stored("flush_ms = 8\nnew = 1")), Some(8)),
        ("other", None, None),
        ("other", Some(Response::Policy(built_in)), None),
        ("other", Some(stored("flush_ms = 8")), Some(8)),
    ] {
        let bench = &bench;
        // A virtual host of its own: nothing is known of it.
        let vhost = format!("v{}", bench.applications.described());
        if let Some(policy) = policy.clone() {
            bench.applications.put(&vhost, name, policy);
        }
        let application = bench.policies.look_up(&vhost, name);
        let verdict = application.settled().await.expect("an answer");
        match expected {
            Some(expected) => assert_eq!(flush_ms(Some(verdict)), expected, "{policy:?}"),
            None => assert_eq!(verdict, Verdict::Unknown, "{policy:?}"),
        }
    }
}

fn stored(toml: &str) -> Response {
    Response::Policy(v1::ApplicationPolicy {
        version: 1,
        toml: toml.to_owned(),
        stored: true,
    })
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_used_keeps_newcomers_out() {
    let bench = Bench::start().await;
    let broken = v1::ApplicationBroken {
        reason: "line 1".to_owned(),
    };
    bench
        .applications
        .put(DEFAULT_VHOST, "live", Response::Broken(broken));
    bench
        .applications
        .store(DEFAULT_VHOST, "b", "flush_ms = \"no\"");
    assert_eq!(bench.verdict("live").await, Some(Verdict::Broken));
    assert_eq!(bench.verdict("b").await, Some(Verdict::Broken));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_only_the_edge_is_told_of_keeps_everybody_out() {
    let bench = Bench::start().await;
    let mut section = ApplicationSection::default();
    section.handler.address = "http://127.0.0.1:7".to_owned();
    let configured = BTreeMap::from([("guarded".to_owned(), section)]);
    let upstream = Arc::clone(&bench.origins.upstream);
    let tasks = Tasks::new(bench.origins.stop.child_token());
    let policies = Policies::new(&configured, upstream, tasks);
    let application = policies.look_up(DEFAULT_VHOST, "guarded");
    assert_eq!(application.settled().await, Some(Verdict::Broken));
}

#[tokio::test(start_paused = true)]
async fn origins_that_know_of_no_applications_leave_them_to_the_edge() {
    let applications = Applications::new();
    applications.set_too_old(true);
    let bench = Bench::of(applications).await;
    bench.policies.start();
    let (held, verdict) = bench.look_up("live").await;
    assert_eq!(flush_ms(verdict), 3);
    assert_eq!(bench.verdict("other").await, Some(Verdict::Unknown));
    // Until they are replaced.
    bench
        .applications
        .store(DEFAULT_VHOST, "live", "flush_ms = 8");
    bench.applications.set_too_old(false);
    bench.applications.until_described(1).await;
    assert_eq!(flush_ms(held.settled().await), 8);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_asked_for_where_it_is_in_use_and_otherwise_when_it_is_wanted() {
    let bench = Bench::start().await;
    bench.listen().await;
    bench
        .applications
        .store(DEFAULT_VHOST, "used", "flush_ms = 1");
    bench
        .applications
        .store(DEFAULT_VHOST, "idle", "flush_ms = 1");
    let (used, verdict) = bench.look_up("used").await;
    assert_eq!(flush_ms(verdict), 1);
    assert_eq!(flush_ms(bench.verdict("idle").await), 1);
    let before = bench.applications.described();
    for name in ["used", "idle", "unheard-of"] {
        bench
            .applications
            .store(DEFAULT_VHOST, name, "flush_ms = 2");
        bench.applications.announce(DEFAULT_VHOST, name).await;
    }
    bench.applications.until_described(before + 1).await;
    assert_eq!(flush_ms(used.settled().await), 2);
    assert_eq!(used.policy().unwrap().flush_ms, 2);
    assert_eq!(flush_ms(bench.verdict("idle").await), 2);
    assert_eq!(bench.applications.described(), before + 2);
}

#[tokio::test(start_paused = true)]
async fn that_there_is_no_file_is_not_believed_for_ever() {
    let bench = Bench::start().await;
    let (live, verdict) = bench.look_up("live").await;
    assert_eq!(flush_ms(verdict), 3);
    assert_eq!(bench.verdict("chat").await, Some(Verdict::Unknown));
    for name in ["live", "chat"] {
        bench
            .applications
            .store(DEFAULT_VHOST, name, "flush_ms = 1");
    }
    // Nobody says so: it is not asked about again at once, and not left at that either.
    assert_eq!(bench.verdict("chat").await, Some(Verdict::Unknown));
    assert_eq!(bench.applications.described(), 2);
    tokio::time::sleep(ABSENT).await;
    // The clock has leapt, and the origins may seem to be away for a moment.
    let found = async {
        loop {
            match bench.verdict("chat").await {
                Some(Verdict::Known(policy)) => return policy.flush_ms,
                _ => tokio::time::sleep(ASK_PAUSE).await,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, found).await.unwrap(), 1);
    // What holds is not waited for.
    let found = async {
        loop {
            bench.policies.look_up(DEFAULT_VHOST, "live");
            match flush_ms(live.verdict().expect("at once")) {
                1 => return,
                _ => tokio::time::sleep(ASK_PAUSE).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_origin_that_says_what_changes_is_asked() {
    let [a, b] = ["a", "b"].map(|id| (id, Applications::new()));
    let origins = Origins::start(&["a", "b"], UpstreamSection::default(), |id, routes| {
        let (_, applications) = if id == a.0 { &a } else { &b };
        routes.add_service(ApplicationServer::new(applications.clone()))
    })
    .await;
    let upstream = Arc::clone(&origins.upstream);
    let tasks = Tasks::new(origins.stop.child_token());
    let policies = Policies::new(&BTreeMap::new(), upstream, tasks);
    policies.start();
    let listening = async {
        while policies.0.listening.lock().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.unwrap();
    let node = policies.0.listening.lock().clone().unwrap();
    for number in 0..20 {
        let application = policies.look_up(DEFAULT_VHOST, &format!("app-{number}"));
        application.settled().await;
    }
    let asked = [&a, &b].map(|(id, applications)| (*id == node.as_str(), applications.described()));
    for (is_listened_to, described) in asked {
        assert_eq!(described, if is_listened_to { 20 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_known_holds_while_no_origin_answers_or_the_file_is_broken() {
    let bench = Bench::start().await;
    bench.listen().await;
    bench
        .applications
        .store(DEFAULT_VHOST, "chat", "flush_ms = 1");
    let (chat, _) = bench.look_up("chat").await;
    let broken = v1::ApplicationBroken {
        reason: "line 1".to_owned(),
    };
    let before = bench.applications.described();
    bench
        .applications
        .put(DEFAULT_VHOST, "chat", Response::Broken(broken));
    bench.applications.announce(DEFAULT_VHOST, "chat").await;
    bench.applications.until_described(before + 1).await;
    assert_eq!(chat.settled().await, Some(Verdict::Broken));
    assert_eq!(chat.policy().unwrap().flush_ms, 1);

    bench
        .applications
        .store(DEFAULT_VHOST, "chat", "flush_ms = 2");
    bench.applications.announce(DEFAULT_VHOST, "chat").await;
    bench.applications.until_described(before + 2).await;
    assert_eq!(flush_ms(chat.settled().await), 2);

    for id in ["a", "b"] {
        bench.origins.kill(id);
    }
    let cluster = &bench.origins.upstream.cluster;
    let mut changes = cluster.changes();
    while cluster.view().route(&crate::testing::name("x")).is_some() {
        changes.changed().await.unwrap();
    }
    assert_eq!(flush_ms(bench.verdict("chat").await), 2);
    // Of this one nothing is known.
    assert_eq!(bench.verdict("other").await, None);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_none_do_not_fill_the_table() {
    let bench = Bench::start().await;
    bench.applications.store(DEFAULT_VHOST, "chat", "");
    let (chat, _) = bench.look_up("chat").await;
    let mut most = 0;
    for number in 0..5 * MAX_KNOWN {
        bench.verdict(&format!("none-{number}")).await;
        most = most.max(bench.policies.0.table.lock().len());
    }
    assert!(most <= MAX_KNOWN, "{most} applications");
    // Who is there is not forgotten.
    let again = bench.policies.look_up(DEFAULT_VHOST, "chat");
    assert!(Arc::ptr_eq(&again, &chat));
}
