//! The keys of `app.toml`, which are those of `[applications.NAME]` in an edge's configuration.

use std::collections::BTreeMap;

use headwater_node::{choice, section};

choice! {
    /// What becomes of a published stream.
    pub enum RecordPolicy {
        /// What the publisher asks for: encoders mostly ask for a live stream.
        AsAsked = "as-asked",
        /// Every stream is recorded anew: a recording of that name is replaced.
        Record = "record",
        /// Every stream is recorded, behind what was recorded under that name before.
        Append = "append",
        /// Nothing is recorded, whatever the publisher asks for.
        Never = "never",
    }
}

choice! {
    /// What is done with clients while the handler cannot be asked.
    pub enum OnFailure {
        /// They are refused; their calls fail.
        Closed = "closed",
        /// They are let in, and may do what the application allows; their calls fail.
        Open = "open",
    }
}

section! {
    /// The program that decides on connections, streams, calls and shared objects of an application, over gRPC
    /// (`proto/headwater/v1/handler.proto`). Origins call it.
    pub struct HandlerSection {
        /// Where it listens: `http://HOST:PORT`, or `https://HOST:PORT` where `ca_file` or the system knows who signed its certificate. Empty:
        /// there is none.
        pub address: String = String::new(),
        /// PEM file, on origins, with the authority that signed the program's certificate.
        pub ca_file: String = String::new(),
        /// How long it may take for an answer, in milliseconds, before the client is treated as `on_failure` says. A client whose
        /// connection it leaves pending is waited for as long as `pending_ms`.
        pub timeout_ms: u64 = 5_000 => 10..=600_000,
        /// How long a client may be pending, in milliseconds.
        pub pending_ms: u64 = 60_000 => 100..=3_600_000,
        /// What is done with clients while it does not answer, or answers nonsense.
        pub on_failure: OnFailure = OnFailure::Closed,
        /// Answers that are waited for at once in an instance. What is asked beyond that fails at once.
        pub max_waiting: usize = 10_000 => 1..=1_000_000,
        /// Failures one after the other, of calls to it and answers of it, after which nothing is asked for `breaker_ms`.
        pub breaker_failures: u32 = 5 => 1..=1_000,
        /// How long it is left alone then, in milliseconds.
        pub breaker_ms: u64 = 2_000 => 10..=600_000,
    }
    validate |section, problems| {
        let address = section.address.as_str();
        let host = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
        if !address.is_empty() && host.is_none_or(|host| host.is_empty() || host.contains(char::is_whitespace)) {
            problems.push("address", "must be `http://HOST:PORT` or `https://HOST:PORT`");
        }
    }
}

choice! {
    /// When the author of a change is told that it is made, and others see it.
    pub enum Confirm {
        /// When it is durable: what anybody has seen survives the loss of any node.
        Durable = "durable",
        /// At once. It is made durable behind that; the last moment may be lost with a node.
        AtOnce = "at-once",
    }
}

choice! {
    /// What a new shared object is where a client does not say it.
    pub enum Unsaid {
        /// It is gone when nobody uses it any more.
        Temporary = "temporary",
        /// It is kept.
        Persistent = "persistent",
    }
}

section! {
    /// Shared objects of an application.
    pub struct SharedObjectsSection {
        /// When a change of a persistent object is confirmed.
        pub confirm: Confirm = Confirm::Durable,
        /// What a new object is for clients that do not say whether it is to be persistent: servers that take part in the object of
        /// another, and `rtmp-client` of npm.
        pub unsaid: Unsaid = Unsaid::Temporary,
        /// Objects in use at once in one instance. 0: there are none.
        pub max_objects: usize = 50_000 => 0..=10_000_000,
        /// Objects that one client may use at once.
        pub max_objects_per_client: usize = 1_000 => 0..=1_000_000,
        /// Slots of one object.
        pub max_slots: usize = 10_000 => 1..=1_000_000,
        /// Longest value of a slot, and longest message with `send`, in bytes.
        pub max_slot_bytes: usize = 65_536 => 16..=1_048_576,
        /// Largest object, names and values, in bytes.
        pub max_object_bytes: usize = 4_194_304 => 1_024..=67_108_864,
        /// Of what is removed, how many slots are remembered in each object: a client or an edge that comes back is told what it missed.
        pub remembered_removals: usize = 1_000 => 0..=100_000,
        /// Most bytes of an object's recent changes that an edge keeps for clients that are slow.
        pub log_bytes: usize = 1_048_576 => 4_096..=67_108_864,
    }
}

section! {
    /// What an application allows.
    pub struct ApplicationSection {
        /// Whether clients may publish.
        pub publish: bool = true,
        /// Whether clients may play.
        pub play: bool = true,
        /// What is recorded: "as-asked" by the publisher, "record" (everything, anew), "append" (everything, behind what
        /// there is), "never".
        pub record: RecordPolicy = RecordPolicy::AsAsked,
        /// How much of a recording is kept, in milliseconds of media: viewers rewind so far, and the disk does not fill however
        /// long the stream goes on. What is older is deleted some segments at a time; the file that the recording becomes has the
        /// rest. 0: everything is kept.
        pub record_window_ms: u64 = 0 => 0..=31_536_000_000,
        /// How long frames wait at the edge so that viewers get several with one send, in milliseconds: less processor time
        /// for more latency. 0: each video frame is sent as it comes, and audio goes with it.
        pub flush_ms: u64 = 0 => 0..=350,
        /// Whether the calls of Adobe's DVRCast application are answered: `DVRSubscribe`, `DVRGetStreamInfo` and their like.
        /// What an encoder says with `DVRSetStreamInfo` is kept and told to players; what is recorded is decided by `record`
        /// and by how a stream is published.
        pub dvr: bool = false,
        /// Whether RTMFP clients may meet: they are introduced to each other on all edges, told of the other members of their groups,
        /// and may send each other commands through the server (`relay`). With `publish` and `play` off that is all an application
        /// does: a rendezvous, and no media pass through the cluster.
        pub peers: bool = true,
        /// Whether streams are fed into RTMFP groups, as the `multicast` service of Adobe Media Server does: a stream that is published as
        /// `NAME?fms.multicast.groupspec=G:...` is called `NAME`, and a member of that group that the edge makes publishes it there. It needs
        /// RTMFP, and for members to be told of each other `peers`.
        pub multicast: bool = false,
        /// Clients of one instance at once, on all edges together, where they are said to its origin. 0: any number.
        pub max_clients: usize = 0 => 0..=10_000_000,
        /// How long an instance stays that has no clients any more, in milliseconds; a second at least before its first client.
        pub idle_ms: u64 = 60_000 => 0..=86_400_000,
        /// What clients may play and which shared objects they may use, unless the handler says otherwise: beginnings of names, with a
        /// `;` between them. `/`: all; empty: none.
        pub read_access: String = "/".to_owned(),
        /// What clients may publish and which shared objects they may change, likewise.
        pub write_access: String = "/".to_owned(),
        /// The program that decides.
        pub handler: HandlerSection = HandlerSection::default(),
        /// Shared objects.
        pub shared_objects: SharedObjectsSection = SharedObjectsSection::default(),
    }
    validate |section, problems| {
        for (key, paths) in [("read_access", &section.read_access), ("write_access", &section.write_access)] {
            if paths.chars().any(char::is_control) {
                problems.push(key, "must not hold control characters");
            }
        }
    }
}

/// The applications of a node that configures none, as Adobe Media Server ships them: `live`, that everybody may use; `vod`, where
/// files are played and nothing is published; `dvrcast`, `live` with the calls of encoders and players that record and rewind; `multicast`,
/// `live` that feeds streams into groups.
#[must_use]
pub fn default_applications() -> BTreeMap<String, ApplicationSection> {
    let live = ApplicationSection::default();
    let vod = ApplicationSection {
        publish: false,
        ..ApplicationSection::default()
    };
    let dvrcast = ApplicationSection {
        dvr: true,
        ..ApplicationSection::default()
    };
    let multicast = ApplicationSection {
        multicast: true,
        ..ApplicationSection::default()
    };
    let all = [
        ("live", live),
        ("vod", vod),
        ("dvrcast", dvrcast),
        ("multicast", multicast),
    ];
    BTreeMap::from(all.map(|(name, section)| (name.to_owned(), section)))
}
