//! Over real HTTP on port 0, with a client small enough to hide nothing.

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(routes: Router) -> Running {
    let readiness = Readiness::new();
    let parts = AdminParts {
        node: "edge-1".to_owned(),
        role: "edge".to_owned(),
        metrics: Metrics::new("edge-1", "edge"),
        readiness: readiness.clone(),
        config: "# All of it.\nname = \"edge-1\"\n".to_owned(),
    };
    let admin = Admin::bind(&"127.0.0.1:0".parse().unwrap(), parts)
        .unwrap()
        .merge(routes);
    let address = admin.local_addr();
    assert_ne!(address.port(), 0);
    let stop = CancellationToken::new();
    let task = tokio::spawn(admin.serve(stop.clone()));
    Running {
        address,
        readiness,
        stop,
        task,
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        assert!(
            self.head.contains("content-type: application/json"),
            "{}",
            self.head
        );
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn health_and_readiness() {
    let node = start(Router::new());
    let upstream = node.readiness.check("upstream");
    let answer = ask(node.address, "GET", "/healthz").await;
    assert_eq!(answer.status, 200, "alive, though not ready");
    let answer = ask(node.address, "GET", "/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "ready": false, "draining": false, "checks": { "upstream": { "ok": false, "detail": "not reported yet" } } })
    );
    upstream.set(true, "3 origins");
    let answer = ask(node.address, "GET", "/readyz").await;
    assert_eq!(
        (
            answer.status,
            &answer.json()["checks"]["upstream"]["detail"]
        ),
        (200, &json!("3 origins"))
    );
    node.readiness.drain();
    let answer = ask(node.address, "GET", "/readyz").await;
    assert_eq!(
        (answer.status, &answer.json()["draining"]),
        (503, &json!(true))
    );
    assert_eq!(ask(node.address, "GET", "/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_version_and_configuration() {
    let node = start(Router::new());
    let answer = ask(node.address, "GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: application/openmetrics-text"),
        "{}",
        answer.head
    );
    assert!(
        answer
            .body
            .contains("process_open_fds{node=\"edge-1\",role=\"edge\"} "),
        "{}",
        answer.body
    );
    assert!(answer.body.ends_with("# EOF\n"));
    let answer = ask(node.address, "GET", "/version").await;
    assert_eq!(
        answer.json(),
        json!({ "name": "headwater", "version": crate::VERSION, "node": "edge-1", "role": "edge" })
    );
    let answer = ask(node.address, "GET", "/config").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "# All of it.\nname = \"edge-1\"\n")
    );
}

#[tokio::test]
async fn errors_are_json() {
    let routes = Router::new()
        .route("/api/drain", post(|| async { "ok" }))
        .route(
            "/api/fail",
            get(|| async { ApiError::new(StatusCode::CONFLICT, "conflict", "already \"there\"") }),
        );
    let node = start(routes);
    let answer = ask(node.address, "GET", "/nothing").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({ "error": { "code": "not_found", "message": "there is nothing at /nothing" } })
    );
    for (method, path) in [("POST", "/healthz"), ("GET", "/api/drain")] {
        let answer = ask(node.address, method, path).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (405, &json!("method_not_allowed")),
            "{path}"
        );
    }
    let answer = ask(node.address, "GET", "/api/fail").await;
    assert_eq!(answer.status, 409);
    assert_eq!(
        answer.json(),
        json!({ "error": { "code": "conflict", "message": "already \"there\"" } })
    );
    assert_eq!(
        ask(node.address, "POST", "/api/drain").await.body,
        "ok",
        "routes of other crates are served"
    );
}

#[tokio::test]
async fn it_stops_also_while_a_connection_is_kept_open() {
    let node = start(Router::new());
    let mut idle = TcpStream::connect(node.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
        .await
        .unwrap();
    idle.read_u8().await.unwrap();
    let _silent = TcpStream::connect(node.address).await.unwrap();
    node.stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), node.task)
        .await
        .expect("it ends")
        .unwrap();
    assert!(TcpStream::connect(node.address).await.is_err());
}

#[tokio::test]
async fn a_connection_without_traffic_is_closed_and_makes_room() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounded = listener::Bounded::new(listener, address, 1);
    let router = Router::new().route("/", get(|| async { "here" }));
    let serving = tokio::spawn(axum::serve(bounded, router).into_future());
    let mut silent = TcpStream::connect(address).await.unwrap();
    // An answer shows that the one place is taken.
    silent
        .write_all(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        .await
        .unwrap();
    silent.read_u8().await.unwrap();
    let waiting = tokio::spawn(async move { ask(address, "GET", "/").await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    // From here on the clock jumps to the next timer, which is the idle one.
    tokio::time::pause();
    let answer = tokio::time::timeout(Duration::from_secs(600), waiting).await;
    assert_eq!(
        answer.expect("the silent one is closed").unwrap().body,
        "here"
    );
    serving.abort();
}

#[tokio::test]
async fn an_address_in_use_names_the_key() {
    let node = start(Router::new());
    let parts = AdminParts {
        node: String::new(),
        role: String::new(),
        metrics: Metrics::new("", ""),
        readiness: Readiness::new(),
        config: String::new(),
    };
    let error = Admin::bind(&ListenAddress::Socket(node.address), parts).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`admin.listen`: {} is in use by another process",
            node.address
        )
    );
}
