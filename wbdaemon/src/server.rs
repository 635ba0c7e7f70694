// SPDX-License-Identifier: GPL-2.0-only

//! Serves the page of metrics, on an address or a socket, to every client, however the client behaves.
//!
//! A thread of its own does this, and nothing in it waits for one client alone. A connection is for one
//! request.
//!
//! # Invariants
//! - **Steering never waits for a client.** Three quarters of the file descriptors are not for connections.
//!   The two threads share only a pointer to a page that does not change any more; the lock around the
//!   pointer is held for as long as copying it takes.
//! - **A client's resources are bounded.** There are at most [`MAX_CONNECTIONS`], each for at most
//!   [`DEADLINE`], each with at most [`MAX_HEADER`] bytes sent. A body is not read at all, whatever its
//!   declared length. A page is written once for each format, and all clients that get it share it.
//! - **No client can keep others out.** When there is no place left, or no file descriptor, the oldest
//!   connection is closed for the next one, once it has had [`GRACE`].
//! - **The listener stays** until it is dropped, whatever error `accept` returns.

use crate::{
    accept::{self, Format},
    config::Listen,
    metrics::Page,
    socket::Socket,
};
use http_body_util::Full;
use hyper::{
    body::Bytes,
    header::{HeaderValue, ACCEPT, ALLOW, CONTENT_TYPE, VARY},
    server::conn::http1,
    service::service_fn,
    Method, Request, Response, StatusCode,
};
use hyper_util::rt::TokioIo;
use log::{debug, info, warn};
use nix::sys::resource::{getrlimit, Resource};
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    runtime::{self, Runtime},
    sync::oneshot,
    task::{yield_now, AbortHandle, JoinSet},
    time::{sleep, timeout, timeout_at, Instant},
};

/// Most connections at a time, besides the one that waits for a place. There are fewer where the process may
/// not have four times as many file descriptors.
pub const MAX_CONNECTIONS: usize = 64;

/// The longest time of a connection: for its request and to read the answer.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The time for which a connection has its place for sure. A client that asks for the page at once has it in
/// less than a millisecond.
pub const GRACE: Duration = Duration::from_millis(25);

/// Most bytes of the request line and all headers together, and most headers.
pub const MAX_HEADER: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// After an error of `accept`: the pause before the next attempt, and before the next message.
const PAUSE: Duration = Duration::from_millis(100);
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The page for the next client.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Arc<Page>>>);

impl Default for Shared {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Arc::new(Page::of([].into_iter())))))
    }
}

impl Shared {
    /// Replaces the page.
    pub fn set(&self, page: Page) {
        let page = Arc::new(page);
        let before = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), page);
        // After the lock was released.
        drop(before);
    }

    fn get(&self) -> Arc<Page> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves the page until it is dropped.
pub struct Exporter {
    listen: Listen,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Removed when everything else has ended.
    _socket: Option<Socket>,
}

impl Exporter {
    /// Listens.
    ///
    /// # Errors
    /// The reason why it cannot listen, and advice.
    pub fn new(listen: Listen, page: Shared) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (listener, socket) = bind(&runtime, &listen)?;
        match &listen {
            Listen::Tcp(address) => info!("metrics are at http://{address}/metrics"),
            Listen::Unix(path) => info!("metrics are at /metrics of the socket {}", path.display()),
        }
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            runtime.spawn(serve(listener, page));
            // Everything is closed when this is over.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { listen, stop: Some(stop), thread: Some(thread), _socket: socket })
    }

    /// The place where it listens.
    pub fn listen(&self) -> &Listen {
        &self.listen
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // The thread is never in the middle of anything that takes long.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

fn bind(runtime: &Runtime, listen: &Listen) -> io::Result<(Listener, Option<Socket>)> {
    let path = match listen {
        Listen::Tcp(address) => {
            let listener = runtime.block_on(TcpListener::bind(address)).map_err(|e| explain(&e, address))?;
            return Ok((Listener::Tcp(listener), None));
        }
        Listen::Unix(path) => path,
    };
    let (socket, listener) = Socket::bind(runtime, path)?;
    Ok((Listener::Unix(listener), Some(socket)))
}

/// Advice for an address that cannot be listened on.
fn explain(error: &io::Error, address: &SocketAddr) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another process listens there, `ss -ltnp 'sport = :{}'` says which; end that, or choose \
             another port",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address, `ip address` lists those that it has".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}; ports below 1024 need a capability that wbdaemon does not have, 9837 does not")
        }
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), what)
}

/// A connection, served to its end.
type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Accepts clients, for ever.
async fn serve(listener: Listener, page: Shared) {
    let mut connections = Connections::new();
    let mut said_at: Option<Instant> = None;
    loop {
        let accepted: io::Result<Served> = match &listener {
            Listener::Tcp(tcp) => {
                tcp.accept().await.map(|(stream, _)| Box::pin(connection(stream, page.clone())) as _)
            }
            Listener::Unix(unix) => {
                unix.accept().await.map(|(stream, _)| Box::pin(connection(stream, page.clone())) as _)
            }
        };
        match accepted {
            Ok(connection) => connections.add(connection).await,
            // The client has gone before its turn.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => (),
            Err(e) => {
                // Descriptors or memory are short, and will be available again.
                if said_at.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
                    warn!("cannot take who asks for metrics, trying again: {e}");
                    said_at = Some(Instant::now());
                }
                if !connections.end_oldest().await {
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// The present connections.
struct Connections {
    /// Most connections at a time.
    places: usize,
    tasks: JoinSet<()>,
    /// The beginning of each connection, oldest first; connections that have ended meanwhile are included.
    since: VecDeque<(Instant, AbortHandle)>,
}

impl Connections {
    fn new() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let places = usize::try_from(descriptors / 4).unwrap_or(usize::MAX).clamp(1, MAX_CONNECTIONS);
        Self { places, tasks: JoinSet::new(), since: VecDeque::new() }
    }

    /// Serves one more connection, when there is a place.
    async fn add(&mut self, connection: Served) {
        loop {
            self.forget_ended();
            if self.tasks.len() < self.places {
                break;
            }
            self.end_oldest().await;
        }
        let task = self.tasks.spawn(connection);
        self.since.push_back((Instant::now(), task));
        // The client may have sent its request already, and then has its answer before the next connection is
        // accepted.
        yield_now().await;
    }

    fn forget_ended(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.since.retain(|(_, task)| !task.is_finished());
    }

    /// Waits until any connection has ended, and ends the oldest one when that has had its [`GRACE`]; `false`
    /// if there is none.
    async fn end_oldest(&mut self) -> bool {
        self.forget_ended();
        let Some((since, oldest)) = self.since.front() else { return false };
        if timeout_at(*since + GRACE, self.tasks.join_next()).await.is_err() {
            oldest.abort();
            // The connection is closed when the task is gone.
            self.tasks.join_next().await;
        }
        true
    }
}

/// Serves one connection: one request.
async fn connection<S>(stream: S, page: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service =
        service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, || page.get()))));
    let http = http1::Builder::new()
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(DEADLINE, http).await {
        Ok(Ok(())) => (),
        Ok(Err(e)) => debug!("who asks for metrics: {e}"),
        Err(_) => debug!("who asks for metrics takes more than {} s", DEADLINE.as_secs()),
    }
}

/// The answer to a request. The body of the request is not read.
fn answer<B>(request: &Request<B>, page: impl FnOnce() -> Arc<Page>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "There is only /metrics.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let wanted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut response = match accept::choose(wanted) {
        Some(format) => response(StatusCode::OK, format.content_type(), page().text(format)),
        None => {
            let all = Format::ALL.map(Format::content_type).join(" or ");
            let text = format!("There is only {all}.\n");
            response(StatusCode::NOT_ACCEPTABLE, PLAIN, text.into())
        }
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, PLAIN, Bytes::from_static(text.as_bytes()))
}

fn response(status: StatusCode, content_type: &'static str, text: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::{self, SocketAddr},
        os::unix::net::UnixStream,
        path::PathBuf,
    };

    /// A server for a test.
    struct Bench {
        _dir: tempfile::TempDir,
        path: PathBuf,
        _exporter: Exporter,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("s");
            let exporter = Exporter::new(Listen::Unix(path.clone()), Shared::default()).unwrap();
            Self { _dir: dir, path, _exporter: exporter }
        }

        /// Sends this, and returns everything that comes back until the other side closes.
        fn say(&self, what: &str) -> String {
            talk(UnixStream::connect(&self.path).unwrap(), what)
        }

        /// Asks for a path with a method and more headers.
        fn ask(&self, line: &str, headers: &str) -> Answer {
            Answer::parse(&self.say(&format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")))
        }
    }

    fn talk(mut stream: impl Read + Write, what: &str) -> String {
        stream.write_all(what.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // If the other side leaves data unread, the connection closes with an error.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    struct Answer {
        status: u16,
        headers: String,
        body: String,
    }

    impl Answer {
        fn parse(text: &str) -> Self {
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
            let (first, headers) = head.split_once("\r\n").unwrap();
            let status = first.split(' ').nth(1).unwrap().parse().unwrap();
            Self { status, headers: headers.to_ascii_lowercase(), body: body.to_owned() }
        }

        fn header(&self, name: &str) -> &str {
            let line = self.headers.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_default()
        }
    }

    #[test]
    fn the_page_in_either_format() {
        let bench = Bench::new();
        for format in Format::ALL {
            let kind = format.content_type().split(';').next().unwrap();
            let answer = bench.ask("GET /metrics", &format!("Accept: {kind}\r\n"));
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), format.content_type());
            assert_eq!(answer.header("vary"), "accept");
            assert_eq!(answer.header("connection"), "close");
            assert_eq!(
                answer.body,
                String::from_utf8(Shared::default().get().text(format).to_vec()).unwrap()
            );
            // HEAD is the same without a body.
            let head = bench.ask("HEAD /metrics", &format!("Accept: {kind}\r\n"));
            assert_eq!((head.status, head.body.as_str()), (200, ""));
            assert_eq!(head.header("content-type"), format.content_type());
            assert_eq!(head.header("content-length"), answer.body.len().to_string());
        }
        let kind = |headers: &str| bench.ask("GET /metrics?x=y", headers).header("content-type").to_owned();
        assert_eq!(kind(""), Format::Text.content_type());
        // Several headers form one list.
        let two = "Accept: text/plain;q=0.1\r\nAccept: application/openmetrics-text;q=0.2\r\n";
        assert_eq!(kind(two), Format::OpenMetrics.content_type());
        let none = bench.ask("GET /metrics", "Accept: application/json\r\n");
        assert_eq!(none.status, 406);
        assert!(none.body.contains("version=0.0.4") && none.body.contains("version=1.0.0"), "{}", none.body);
    }

    #[test]
    fn other_paths_and_methods() {
        let bench = Bench::new();
        for path in ["/", "/x", "/metrics/", "//metrics", "/metricsx"] {
            for method in ["GET", "HEAD", "POST"] {
                assert_eq!(bench.ask(&format!("{method} {path}"), "").status, 404, "{method} {path}");
            }
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONSENSE"] {
            let answer = bench.ask(&format!("{method} /metrics"), "");
            assert_eq!((answer.status, answer.header("allow")), (405, "get, head"), "{method}");
        }
        assert_eq!(bench.ask("GET http://x/metrics", "").status, 200);
        assert_eq!(Answer::parse(&bench.say("GET /metrics HTTP/1.0\r\n\r\n")).status, 200);
        assert_eq!(Answer::parse(&bench.say("nonsense\r\n\r\n")).status, 400);
    }

    #[test]
    fn one_request_and_no_body() {
        let bench = Bench::new();
        let text = |format: &str| bench.say(&format.replace('\n', "\r\n"));
        let two = text("GET /metrics HTTP/1.1\nHost: x\n\nGET /metrics HTTP/1.1\nHost: x\n\n");
        assert_eq!(two.matches("HTTP/1.1 200").count(), 1, "{two}");
        // The server does not wait for a body, whatever its declared length.
        for length in ["Content-Length: 99999999999", "Content-Length: 5", "Transfer-Encoding: chunked"] {
            assert_eq!(bench.ask("GET /metrics", &format!("{length}\r\n")).status, 200, "{length}");
            assert_eq!(bench.ask("POST /metrics", &format!("{length}\r\n")).status, 405, "{length}");
            // It does not ask for one either.
            let expects = format!("{length}\r\nExpect: 100-continue\r\n");
            assert_eq!(bench.ask("POST /metrics", &expects).status, 405, "{length}");
        }
        for length in ["99999999999999999999999999", "-1", "5\r\nContent-Length: 6", "x"] {
            let answer = bench.ask("POST /metrics", &format!("Content-Length: {length}\r\n"));
            assert_eq!(answer.status, 400, "{length}");
        }
    }

    #[test]
    fn headers_have_a_limit() {
        let bench = Bench::new();
        let filler = |bytes: usize| format!("X: {}\r\n", "x".repeat(bytes));
        assert_eq!(bench.ask("GET /metrics", &filler(MAX_HEADER / 2)).status, 200);
        assert_eq!(bench.ask("GET /metrics", &filler(MAX_HEADER)).status, 431);
        assert_eq!(bench.ask("GET /metrics", &"X: x\r\n".repeat(MAX_HEADERS - 1)).status, 200);
        assert_eq!(bench.ask("GET /metrics", &"X: x\r\n".repeat(MAX_HEADERS + 1)).status, 431);
        let long = format!("GET /metrics?{}", "x".repeat(MAX_HEADER));
        assert!([414, 431].contains(&bench.ask(&long, "").status));
    }

    #[test]
    fn the_next_one_gets_the_place_of_the_oldest() {
        let bench = Bench::new();
        let mut idle: Vec<_> =
            (0..3 * MAX_CONNECTIONS).map(|_| UnixStream::connect(&bench.path).unwrap()).collect();
        assert_eq!(bench.ask("GET /metrics", "").status, 200);
        // The client's connection was closed, and did not last until the deadline.
        let oldest = &mut idle[0];
        oldest.set_read_timeout(Some(DEADLINE / 2)).unwrap();
        assert_eq!(oldest.read(&mut [0]).unwrap(), 0);
        // The youngest client is still served.
        let youngest = idle.pop().unwrap();
        assert!(talk(youngest, "GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "));
    }

    #[test]
    fn on_an_address() {
        let address: SocketAddr = net::TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
        let exporter = Exporter::new(Listen::Tcp(address), Shared::default()).unwrap();
        let answer = talk(net::TcpStream::connect(address).unwrap(), "GET /metrics HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        let refused = |address: SocketAddr, words: &str| {
            let error = Exporter::new(Listen::Tcp(address), Shared::default()).err().unwrap();
            assert!(error.to_string().contains(words), "{error}");
        };
        refused(address, &format!("another process listens there, `ss -ltnp 'sport = :{}'`", address.port()));
        refused("192.0.2.1:1".parse().unwrap(), "this machine has no such address");
        // The address is free again at once, also after a client was connected.
        drop(exporter);
        Exporter::new(Listen::Tcp(address), Shared::default()).unwrap();
    }

    #[test]
    fn nobody_keeps_it_from_ending() {
        let bench = Bench::new();
        let mut idle: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| UnixStream::connect(&bench.path).unwrap()).collect();
        for stream in &mut idle {
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        }
        let began = std::time::Instant::now();
        let path = bench.path.clone();
        drop(bench);
        assert!(began.elapsed() < DEADLINE / 2);
        assert!(!path.exists());
    }
}
