//! The origin as one thing: made of a configuration and a cluster, gives gRPC services, drains, stops.

use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::node_service::{LoadSource, NodeService};
use headwater_cluster::{Cluster, LocalState};
use headwater_node::metrics::Metrics;
use headwater_proto::v1;
use object_store::path::Path;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::admin::{self, AdminSlot};
use crate::app::catalogue::Catalogue;
use crate::app::hosting::Hosting;
use crate::app::metrics::ApplicationMetrics;
use crate::app::objects::ObjectMetrics;
use crate::app::service::ApplicationService;
use crate::config::OriginSection;
use crate::log::table::{LogTable, Usage};
use crate::metrics::OriginMetrics;
use crate::peers::metrics::PeersMetrics;
use crate::peers::service::PeersService;
use crate::record::recordings::Recordings;
use crate::record::{self, NodeArchives};
use crate::rpc::recordings::RecordingsService;
use crate::rpc::{StreamLogService, other_owner};
use crate::state::{Identity, StateMetrics, States};
use crate::store::{Store, StoreError};
use crate::vod::formats::Formats;
use crate::vod::library::Library;
use crate::vod::metrics::VodMetrics;

/// How often memory is balanced and the place of every stream is looked at, also when no change was noticed.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// What is left of an origin's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Publishers that are attached.
    pub publishers: u32,
    /// Reads that are open.
    pub readers: u32,
    /// Application instances.
    pub instances: u32,
}

/// The origin role of a node. Clones share it.
#[derive(Clone, Debug)]
pub struct Origin {
    cluster: Cluster,
    usage: watch::Receiver<Usage>,
    recordings: Recordings<NodeArchives>,
    stored: RecordingsService,
    peers: PeersService,
    hosting: Hosting,
    applications: ApplicationService,
    /// What operators may see and delete.
    operated: admin::Library,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Origin {
    /// Opens the store and starts. Must be called on a tokio runtime; its tasks end, and its calls are cut, when `stop` is
    /// cancelled. Once per [`Metrics`].
    ///
    /// # Errors
    /// [`StoreError`] where the data folder or the store cannot be used.
    pub async fn new(
        section: &OriginSection,
        cluster: Cluster,
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let store = Store::open(section, metrics).await?;
        let tasks = TaskTracker::new();
        let vod_metrics = VodMetrics::new(metrics);
        let logs = LogTable::new(
            section,
            OriginMetrics::new(metrics),
            tasks.clone(),
            stop.clone(),
        );
        let owner = cluster.clone();
        let home = record::Home {
            store: &store,
            node: cluster.id().as_str(),
            ours: Box::new(move |name| other_owner(&owner.view(), name).is_none()),
            tasks: &tasks,
            stop: &stop,
        };
        let (recordings, archives) = record::start(section, metrics, home).await?;
        let streams = StreamLogService {
            cluster: cluster.clone(),
            logs: logs.clone(),
            recordings: Arc::new(recordings.clone()),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let library = Library::new(
            &section.vod,
            Arc::new(store.clone()),
            Arc::new(Formats::default()),
            vod_metrics.clone(),
            &tasks,
            stop.clone(),
        );
        let stored = RecordingsService::new(
            streams,
            Some(Arc::new(recordings.clone())),
            library,
            vod_metrics,
            section.vod.max_calls,
        );
        let peers = PeersService::new(
            cluster.clone(),
            PeersMetrics::new(metrics),
            tasks.clone(),
            stop.clone(),
        );
        let address = cluster
            .view()
            .member(cluster.id().as_str())
            .map(|it| it.address.clone());
        let identity = Identity {
            node: cluster.id().to_string(),
            address: address.unwrap_or_default(),
        };
        let states = States::new(
            &section.state,
            (Arc::clone(store.objects()), store.is_remote()),
            identity,
            StateMetrics::new(metrics),
            tasks.clone(),
            stop.clone(),
        );
        let applications = ApplicationMetrics::new(metrics);
        let catalogue = Catalogue::new(
            store.clone(),
            section.applications.reload(),
            applications.clone(),
        );
        tasks.spawn(catalogue.clone().watch(stop.clone()));
        let hosting = Hosting::new(
            cluster.clone(),
            catalogue,
            section.applications.clone(),
            states,
            (applications, ObjectMetrics::new(metrics)),
            tasks.clone(),
            stop.clone(),
        );
        let applications = ApplicationService::new(
            cluster.clone(),
            hosting.clone(),
            tasks.clone(),
            stop.clone(),
        );
        let placed = (logs.clone(), hosting.clone());
        tasks.spawn(maintain(cluster.clone(), placed, stop.clone()));
        Ok(Self {
            cluster,
            usage: logs.usage(),
            stored,
            peers,
            hosting,
            applications,
            operated: admin::Library {
                infos: recordings.infos().clone(),
                store,
                archives,
                directories: (section.vod.directories.iter())
                    .filter_map(|it| Path::parse(&it.folder).ok())
                    .collect(),
                tasks: tasks.clone(),
                stop: stop.clone(),
            },
            recordings,
            tasks,
            stop,
        })
    }

    /// The services `StreamLog`, `Recordings`, `Peers`, `Application` and `Node`, for [`headwater_cluster::server::serve`].
    #[must_use]
    pub fn routes(&self) -> Routes {
        let recordings = self.stored.clone();
        let streams = recordings.streams.clone();
        let load = LoadNumbers(self.usage.clone());
        let node = NodeService::new(self.cluster.clone(), load);
        Routes::new(streams.into_server())
            .add_service(recordings.into_server())
            .add_service(self.peers.clone().into_server())
            .add_service(self.applications.clone().into_server())
            .add_service(node.into_server())
    }

    /// Lets operators see what is stored, and delete it.
    pub fn administer(&self, slot: &AdminSlot) {
        slot.fill(self.operated.clone());
    }

    /// What there is to do now.
    #[must_use]
    pub fn remaining(&self) -> Remaining {
        let usage = *self.usage.borrow();
        Remaining {
            publishers: usage.publishers,
            readers: usage.readers,
            instances: u32::try_from(*self.hosting.count().borrow()).unwrap_or(u32::MAX),
        }
    }

    /// Hands every stream and every application instance to its next owner: no new ones are taken, publishers and edges are asked to
    /// move, readers follow, and what was recorded is in the store. Gives what is left when everything is gone or `limit` is over. An origin without another to
    /// hand over to keeps serving until then.
    pub async fn drain(&self, limit: Duration) -> Remaining {
        self.cluster.set_state(LocalState::Draining);
        let mut usage = self.usage.clone();
        let mut instances = self.hosting.count();
        let empty = async {
            let _ = usage.wait_for(|usage| usage.is_idle()).await;
            let _ = instances.wait_for(|count| *count == 0).await;
            self.recordings.quiet().await;
        };
        // Err: over, or the origin is gone; the caller sees what is left.
        let _ = tokio::time::timeout(limit, empty).await;
        self.remaining()
    }

    /// Waits until all tasks have ended after `stop` was cancelled.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct LoadNumbers(watch::Receiver<Usage>);

impl LoadSource for LoadNumbers {
    fn load(&self) -> v1::Load {
        let usage = *self.0.borrow();
        v1::Load {
            published_streams: usage.publishers,
            readers: usage.readers,
        }
    }
}

/// Keeps logs and instances in line with the ring, and logs with the memory that they may use.
async fn maintain(
    cluster: Cluster,
    (logs, instances): (LogTable, Hosting),
    stop: CancellationToken,
) {
    let mut changes = cluster.changes();
    // When a draining node begins to send publishers away: their next owners have to know first that it drains, or they
    // would send them back.
    let heartbeat = Duration::from_millis(cluster.config().liveness.heartbeat_ms);
    let mut draining_since = None;
    loop {
        changes.mark_unchanged();
        let view = cluster.view();
        let now = Instant::now();
        let mut wake = now + MAINTENANCE_INTERVAL;
        let may_depart = match cluster.state() {
            LocalState::Serving => {
                draining_since = None;
                true
            }
            LocalState::Draining => {
                let from = *draining_since.get_or_insert(now) + heartbeat;
                if now < from {
                    wake = wake.min(from);
                }
                now >= from
            }
        };
        let handles = logs.handles();
        logs.balance(&handles);
        for handle in handles {
            match other_owner(&view, handle.name()) {
                None => handle.update(|log, _| log.stay()),
                Some(target) if may_depart => handle.update(|log, now| log.depart(now, target)),
                Some(_) => {}
            }
        }
        instances.place(&view, may_depart, cluster.state() == LocalState::Draining);
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
            () = stop.cancelled() => break,
        }
    }
    logs.clear();
}
