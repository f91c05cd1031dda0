//! One request against the engine, on a blocking thread.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use crate::store::chdb::{Answer, Connection, Engine, Stream, Summary, is_not_streamable};

use super::cancel::Progress;
use super::fault::{Fault, code};
use super::format::{self, Header, Join};
use super::intake::{Intake, Pieces};
use super::native;
use super::outlet::{Encoder, Held, Part, exception_block};
use super::request::{Ask, QUERY_BYTES_MAX};
use super::statement::{self, Statement};

/// Piece of an answer that was materialised: small enough for the connection's buffer, without a copy.
const PIECE_BYTES: usize = 256 << 10;

/// A client that takes nothing of its answer for so long has gone, or blocks one of few turns.
const TAKE_WAIT_MAX: Duration = Duration::from_secs(120);

/// What the answer begins with.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) format: String,
    pub(super) encoding: Option<&'static str>,
    pub(super) summary: Summary,
}

/// Everything that a request's thread works with.
pub(super) struct Work {
    pub(super) engine: Arc<Engine>,
    pub(super) ask: Ask,
    pub(super) pieces: Pieces,
    pub(super) mark: String,
    pub(super) tag: String,
    pub(super) version: Arc<str>,
    pub(super) progress: Arc<Progress>,
    pub(super) head: oneshot::Sender<Result<Head, Fault>>,
    pub(super) parts: mpsc::Sender<Part>,
}

impl Work {
    /// Does it. Whatever happens, the head is sent, or the parts end with a break.
    pub(super) fn run(self, folder: &Path) {
        let Work { engine, ask, pieces, mark, tag, version, progress, head, parts } = self;
        // Decoders read ahead, which blocks: they are made here, not where the request came in.
        let mut intake = Intake::new(pieces, ask.encoding, ask.decompress);
        let mut reply = Reply {
            head: Some(head),
            parts,
            encoder: Some(Encoder::new(ask.gzip, ask.compress)),
            held: ask.wait_end_of_query.then(|| Held::new(folder)),
            format: String::new(),
            revision: ask.revision,
            is_stuck: Cell::new(false),
        };
        let result = execute(&engine, &ask, &mut intake, &mark, &progress, &mut reply);
        progress.set_done();
        match result {
            Ok(summary) => reply.finish(summary),
            Err(fault) => reply.fail(fault.with_version(&version), &tag),
        }
    }
}

fn execute(
    engine: &Arc<Engine>,
    ask: &Ask,
    intake: &mut Intake,
    mark: &str,
    progress: &Progress,
    reply: &mut Reply,
) -> Result<Summary, Fault> {
    let (text, statement) = read_statement(&ask.query, intake)?;
    if progress.is_cancelled() {
        return Err(cancelled());
    }
    let mut connection = engine.connect()?;
    for preparation in ask.preparations(mark) {
        connection.prepare(&preparation)?;
    }
    let default_format = || ask.default_format.clone().unwrap_or_else(|| "TabSeparated".to_owned());
    match statement {
        Statement::Insert { sql, format, .. } => {
            reply.format = default_format();
            let format = format.or_else(|| ask.default_format.clone()).unwrap_or_else(|| "Values".to_owned());
            insert(connection, &sql, &format, ask, intake, progress)
        }
        Statement::Query { is_select, format } => {
            reply.format = format.unwrap_or_else(default_format);
            let join = format::join(&reply.format);
            if !is_select || join == Join::Whole {
                let answer = connection.query(&text, &reply.format, &ask.parameters)?;
                return whole(answer, reply);
            }
            match connection.stream(&text, &reply.format, &ask.parameters) {
                Ok(stream) => rows(stream, join, progress, reply),
                Err(error) if is_not_streamable(&error) => {
                    // Nothing was run. The connection has seen an error: a fresh one.
                    let mut connection = engine.connect()?;
                    for preparation in ask.preparations(mark) {
                        connection.prepare(&preparation)?;
                    }
                    let answer = connection.query(&text, &reply.format, &ask.parameters)?;
                    whole(answer, reply)
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Reads as much of URL and body as the statement takes. The text is whole unless rows follow; those are left in
/// the intake.
fn read_statement(query: &[u8], intake: &mut Intake) -> Result<(Bytes, Statement), Fault> {
    let mut text = BytesMut::from(query.trim_ascii_end());
    if !text.is_empty() {
        // ClickHouse puts this between the query of the URL and the body.
        text.extend_from_slice(b"\n");
        if let Some(Statement::Insert { sql, format, data_at }) = statement::read(&text, false)? {
            let text = text.freeze();
            intake.push_back(text.slice(data_at..));
            return Ok((text, Statement::Insert { sql, format, data_at }));
        }
    }
    loop {
        let piece = intake.next()?;
        let is_complete = piece.is_none();
        text.extend_from_slice(&piece.unwrap_or_default());
        match statement::read(&text, is_complete)? {
            Some(Statement::Insert { sql, format, data_at }) => {
                let text = text.freeze();
                intake.push_back(text.slice(data_at..));
                return Ok((text, Statement::Insert { sql, format, data_at }));
            }
            Some(statement) => return Ok((text.freeze(), statement)),
            None if text.len() > QUERY_BYTES_MAX => {
                let message = format!("a query is limited to {QUERY_BYTES_MAX} bytes");
                return Err(Fault::new(code::QUERY_IS_TOO_LARGE, "QUERY_IS_TOO_LARGE", message));
            }
            None => {}
        }
    }
}

fn cancelled() -> Fault {
    Fault::new(code::QUERY_WAS_CANCELLED, "QUERY_WAS_CANCELLED", "the client has gone")
}

fn insert(
    connection: Connection,
    sql: &[u8],
    format: &str,
    ask: &Ask,
    intake: &mut Intake,
    progress: &Progress,
) -> Result<Summary, Fault> {
    let mut insert = connection.insert(sql, format, &ask.parameters)?;
    loop {
        match intake.next() {
            _ if progress.is_cancelled() => {
                insert.abort();
                return Err(cancelled());
            }
            Ok(Some(piece)) => insert.append(&piece)?,
            Ok(None) => return Ok(insert.finish()?),
            Err(fault) => {
                insert.abort();
                return Err(fault);
            }
        }
    }
}

/// Sends an answer that is in the engine's memory, without copying it.
fn whole(answer: Answer, reply: &mut Reply) -> Result<Summary, Fault> {
    let summary = answer.summary();
    let mut bytes = reply.shape(Bytes::from_owner(answer))?;
    reply.summary_known(summary);
    while !bytes.is_empty() {
        reply.push(bytes.split_to(bytes.len().min(PIECE_BYTES)))?;
    }
    Ok(summary)
}

/// Sends chunk after chunk as one document.
fn rows(mut stream: Stream, join: Join, progress: &Progress, reply: &mut Reply) -> Result<Summary, Fault> {
    let mut header: Option<Bytes> = None;
    let mut summary = Summary::default();
    while let Some(chunk) = stream.next()? {
        if progress.is_cancelled() {
            return Err(cancelled());
        }
        let of_chunk = chunk.summary();
        summary.rows_read = summary.rows_read.max(of_chunk.rows_read);
        summary.bytes_read = summary.bytes_read.max(of_chunk.bytes_read);
        let rows = chunk.rows();
        let mut bytes = Bytes::from_owner(chunk);
        if let Join::Header(kind) = join {
            match &header {
                None => header = Some(first_header(kind, &bytes)?),
                Some(header) if bytes.starts_with(header) => drop(bytes.split_to(header.len())),
                // The chunk of the totals has it behind them.
                Some(header) if rows == 0 && bytes.ends_with(header) => {
                    bytes.truncate(bytes.len() - header.len());
                }
                Some(_) => {}
            }
        }
        let bytes = reply.shape(bytes)?;
        reply.push(bytes)?;
    }
    Ok(summary)
}

fn first_header(kind: Header, chunk: &Bytes) -> Result<Bytes, Fault> {
    let length = format::header_length(kind, chunk).ok_or_else(|| {
        Fault::new(code::SYSTEM_ERROR, "SYSTEM_ERROR", "the first chunk has no whole header")
    })?;
    Ok(chunk.slice(..length))
}

/// The answer as it is sent: the head with the first bytes, so that an error before them is a status.
struct Reply {
    head: Option<oneshot::Sender<Result<Head, Fault>>>,
    parts: mpsc::Sender<Part>,
    /// Gone when finished.
    encoder: Option<Encoder>,
    held: Option<Held>,
    format: String,
    revision: u64,
    /// Nothing more can be sent.
    is_stuck: Cell<bool>,
}

impl Reply {
    /// An answer that is complete before its first byte has its counters in the head.
    fn summary_known(&mut self, summary: Summary) {
        if self.held.is_none() {
            self.send_head(summary);
        }
    }

    fn send_head(&mut self, summary: Summary) {
        if let Some(head) = self.head.take() {
            let encoding = self.encoder.as_ref().and_then(Encoder::name);
            // Nobody waits any more: the next part will tell.
            let _ = head.send(Ok(Head { format: self.format.clone(), encoding, summary }));
        }
    }

    /// What the engine wrote, as the client's protocol version has it.
    fn shape(&self, bytes: Bytes) -> Result<Bytes, Fault> {
        if self.format == "Native" && self.revision >= native::REVISION_MIN {
            return native::with_revision(&bytes);
        }
        Ok(bytes)
    }

    fn push(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        let encoded = encoder.push(bytes);
        if encoded.is_empty() {
            return Ok(());
        }
        if let Some(held) = &mut self.held {
            return held.push(encoded).map_err(|error| {
                let message = format!("cannot keep the answer back until the query ends: {error}");
                Fault::new(code::NOT_ENOUGH_SPACE, "NOT_ENOUGH_SPACE", message)
            });
        }
        self.send_head(Summary::default());
        self.send(Part::Data(encoded))
    }

    fn finish(mut self, summary: Summary) {
        self.send_head(summary);
        if let Some(held) = self.held.take() {
            let drained = held.drain(|piece| self.send(Part::Data(piece)).is_ok());
            if let Err(error) = drained {
                let _ = self.send(Part::Break(format!("cannot read back the answer that was held: {error}")));
                return;
            }
        }
        let rest = self.encoder.take().map(Encoder::finish).unwrap_or_default();
        // Without the end the connection breaks: a client that missed a piece cannot take the others for whole.
        if !self.is_stuck.get() && (rest.is_empty() || self.send(Part::Data(rest)).is_ok()) {
            let _ = self.send(Part::End);
        }
    }

    /// An error before the head is a status; one after it ends the answer with its text and a broken connection.
    fn fail(mut self, fault: Fault, tag: &str) {
        if let Some(head) = self.head.take() {
            let _ = head.send(Err(fault));
            return;
        }
        let block = exception_block(tag, &fault);
        let Some(mut encoder) = self.encoder.take() else { return };
        let last = [encoder.push(block), encoder.finish()].concat();
        if !self.is_stuck.get() && self.send(Part::Data(last.into())).is_ok() {
            let _ = self.send(Part::Break(fault.text));
        }
    }

    /// Waits while the client is slow; an error if it has gone or stands still.
    fn send(&self, part: Part) -> Result<(), Fault> {
        let sending = self.parts.send_timeout(part, TAKE_WAIT_MAX);
        tokio::runtime::Handle::current().block_on(sending).map_err(|_| {
            self.is_stuck.set(true);
            cancelled()
        })
    }
}
