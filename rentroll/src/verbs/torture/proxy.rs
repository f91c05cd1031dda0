//! A wire between two processes that can be cut, held, or made one-way, and that can lose an insert's answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes taken at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// It passes everything on.
    Open,
    /// Connections are closed, and new ones as soon as they are made.
    Cut,
    /// Connections stay, and nothing passes.
    Stalled,
    /// What the client says passes, what it is answered does not.
    HalfOpen,
}

/// What happens to an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trap {
    /// The store answers with an error of the moment and has not seen it.
    Refuse,
    /// The connection closes, and the store has not seen it.
    Close,
    /// The store gets a part of it, then the connection closes.
    BreakOff,
    /// The store gets all of it, and the connection closes on its answer.
    LoseAnswer,
}

/// A trap that is set, for inserts into one table.
#[derive(Clone, Debug)]
struct Set {
    trap: Trap,
    /// What a request into that table holds.
    needle: String,
    left: u64,
}

/// A wire.
#[derive(Debug)]
pub(super) struct Proxy {
    port: u16,
    wire: watch::Sender<Wire>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    set: Mutex<Option<Set>>,
    sprung: AtomicU64,
    target: Mutex<Option<SocketAddr>>,
}

impl Proxy {
    /// A wire that leads nowhere yet.
    ///
    /// # Errors
    /// If no port can be had.
    pub(super) async fn listen() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (wire, _) = watch::channel(Wire::Open);
        let shared = Arc::new(Shared::default());
        let (told, with) = (wire.clone(), shared.clone());
        tokio::spawn(async move {
            // Ends with the runtime: the run is over then.
            while let Ok((client, _)) = listener.accept().await {
                if *told.borrow() == Wire::Cut {
                    continue;
                }
                tokio::spawn(carry(client, told.subscribe(), with.clone()));
            }
        });
        Ok(Proxy { port, wire, shared })
    }

    /// Where it leads.
    pub(super) fn lead_to(&self, port: u16) {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }

    /// Where to connect.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Changes what the wire does, at once and for all its connections.
    pub(super) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Sets a trap for the next `times` inserts into `table`.
    pub(super) fn set_trap(&self, trap: Trap, table: &str, times: u64) {
        // As the client writes `INSERT INTO `table`` into a URL.
        let needle = format!("INSERT+INTO+%60{table}%60");
        let mut set = self.shared.set.lock().unwrap_or_else(PoisonError::into_inner);
        *set = Some(Set { trap, needle, left: times });
    }

    /// Takes the trap away; returns how often it has sprung since the last call.
    pub(super) fn clear_trap(&self) -> u64 {
        *self.shared.set.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.sprung.swap(0, Ordering::Relaxed)
    }

    /// Whether the trap has sprung as often as it was to.
    pub(super) fn is_spent(&self) -> bool {
        self.shared.set.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl Shared {
    /// The trap that this request springs, if any.
    fn springs(&self, request: &[u8]) -> Option<Trap> {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let held = set.as_mut()?;
        let needle = held.needle.as_bytes();
        if !request.starts_with(b"POST ") || !request.windows(needle.len()).any(|part| part == needle) {
            return None;
        }
        held.left -= 1;
        let trap = held.trap;
        if held.left == 0 {
            *set = None;
        }
        self.sprung.fetch_add(1, Ordering::Relaxed);
        Some(trap)
    }
}

/// One connection, to its end. Whatever ends one direction ends both.
async fn carry(client: TcpStream, mut wire: watch::Receiver<Wire>, shared: Arc<Shared>) {
    let Some(target) = *shared.target.lock().unwrap_or_else(PoisonError::into_inner) else { return };
    if !passes(&mut wire, true).await {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let lose_answer = watch::channel(false).0;
    let cut = wait_for_cut(wire.clone());
    tokio::select! {
        () = cut => {}
        _ = requests(from_client, to_server, wire.clone(), &shared, &lose_answer) => {}
        _ = answers(from_server, to_client, wire, lose_answer.subscribe()) => {}
    }
}

async fn wait_for_cut(mut wire: watch::Receiver<Wire>) {
    // The sender lives as long as the run.
    let _ = wire.wait_for(|wire| *wire == Wire::Cut).await;
}

/// Waits until the wire carries in that direction; false if the run is over.
async fn passes(wire: &mut watch::Receiver<Wire>, is_request: bool) -> bool {
    let open = |wire: &Wire| match wire {
        Wire::Open => true,
        Wire::HalfOpen => is_request,
        Wire::Cut | Wire::Stalled => false,
    };
    wire.wait_for(open).await.is_ok()
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    shared: &Shared,
    lose_answer: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 || !passes(&mut wire, true).await {
            return Ok(());
        }
        match shared.springs(&chunk[..read]) {
            None => to.write_all(&chunk[..read]).await?,
            Some(Trap::LoseAnswer) => {
                lose_answer.send_replace(true);
                to.write_all(&chunk[..read]).await?;
            }
            Some(Trap::BreakOff) => {
                // All but the end: the store has begun, and will not hear the last of it.
                to.write_all(&chunk[..read - read / 4 - 1]).await?;
                to.flush().await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
                return Ok(());
            }
            Some(Trap::Close) => return Ok(()),
            Some(Trap::Refuse) => return refuse(from).await,
        }
    }
}

/// Answers as a ClickHouse that is short of memory does.
async fn refuse(from: OwnedReadHalf) -> std::io::Result<()> {
    const BODY: &str = "Code: 241. DB::Exception: (total) memory limit exceeded. (MEMORY_LIMIT_EXCEEDED)\n";
    let answer = format!(
        "HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: 241\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    // The half that writes to this client is with the other direction; the descriptor is the same.
    from.as_ref().writable().await?;
    let _ = from.as_ref().try_write(answer.as_bytes())?;
    // Time for the client to read it before the connection goes.
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    lose: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 || *lose.borrow() || !passes(&mut wire, false).await {
            return Ok(());
        }
        to.write_all(&chunk[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each request it has read to its end with `stored`, and counts them.
    async fn server() -> (u16, Arc<AtomicU64>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(AtomicU64::new(0));
        let counted = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counted = counted.clone();
                tokio::spawn(async move {
                    let mut chunk = [0; 1024];
                    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                        // Half a request gets no answer, whatever the proxy does next.
                        if chunk[..read].ends_with(b"end") {
                            counted.fetch_add(1, Ordering::Relaxed);
                            let _ = stream.write_all(b"stored").await;
                        }
                    }
                });
            }
        });
        (port, seen)
    }

    async fn ask(port: u16, text: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut chunk = [0; 1024];
        let read = tokio::time::timeout(Duration::from_millis(400), stream.read(&mut chunk)).await??;
        Ok(String::from_utf8_lossy(&chunk[..read]).into_owned())
    }

    #[tokio::test]
    async fn each_trap_does_what_it_says() {
        let (port, seen) = server().await;
        let proxy = Proxy::listen().await.unwrap();
        proxy.lead_to(port);
        let insert = "POST /?query=INSERT+INTO+%60events%60+FORMAT+RowBinary ... end";
        for (trap, answer, stored) in [
            (Trap::LoseAnswer, "", 1),
            (Trap::BreakOff, "", 0),
            (Trap::Close, "", 0),
            (Trap::Refuse, "HTTP/1.1 500", 0),
        ] {
            seen.store(0, Ordering::Relaxed);
            proxy.set_trap(trap, "events", 1);
            let other = ask(proxy.port(), "POST /?query=INSERT+INTO+%60batches%60 end").await.unwrap();
            assert_eq!((other.as_str(), seen.swap(0, Ordering::Relaxed)), ("stored", 1), "{trap:?}");
            let said = ask(proxy.port(), insert).await.unwrap_or_default();
            assert!(said.starts_with(answer) && (answer.is_empty() == said.is_empty()), "{trap:?}: {said}");
            assert_eq!(seen.load(Ordering::Relaxed), stored, "{trap:?}");
            assert!(proxy.is_spent());
            assert_eq!(proxy.clear_trap(), 1);
            assert_eq!(ask(proxy.port(), insert).await.unwrap(), "stored", "{trap:?} is over");
        }
    }

    #[tokio::test]
    async fn a_wire_is_cut_held_and_made_one_way() {
        let (port, seen) = server().await;
        let proxy = Proxy::listen().await.unwrap();
        proxy.lead_to(port);
        for (wire, heard) in [(Wire::Cut, 0), (Wire::Stalled, 0), (Wire::HalfOpen, 1)] {
            seen.store(0, Ordering::Relaxed);
            proxy.set(wire);
            assert_ne!(ask(proxy.port(), "x end").await.ok().as_deref(), Some("stored"), "{wire:?}");
            assert_eq!(seen.load(Ordering::Relaxed), heard, "{wire:?}");
            proxy.set(Wire::Open);
            assert_eq!(ask(proxy.port(), "y end").await.unwrap(), "stored", "after {wire:?}");
        }
    }
}
