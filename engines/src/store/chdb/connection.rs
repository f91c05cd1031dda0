//! Safe owners of the library's handles: engine, connection, results, streams.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::exit;
use super::library::{Library, RawConnection, RawInsert, RawResult};
use super::{EngineError, exception_code};

/// Query parameters: name and value, the value escaped as a TSV field, as ClickHouse's HTTP interface has it.
pub(crate) type Parameters = [(String, Vec<u8>)];

/// The engine, open on its path for as long as this lives: closing the last connection ends it, so one is held.
pub(crate) struct Engine {
    library: &'static Library,
    path: CString,
    keeper: Mutex<RawConnection>,
}

// SAFETY: the library opens and closes connections from any thread; the kept handle is behind a mutex.
unsafe impl Send for Engine {}
// SAFETY: as above.
unsafe impl Sync for Engine {}

impl Engine {
    /// Starts the engine on `path`. `options` are server options such as `--max_server_memory_usage=…`; the
    /// library ignores the ones it does not know.
    pub(crate) fn open(
        library: &'static Library,
        path: &Path,
        options: &[String],
    ) -> Result<Arc<Engine>, EngineError> {
        let open_error =
            |reason: &str| EngineError::Open { path: path.display().to_string(), reason: reason.to_owned() };
        let text = path.to_str().ok_or_else(|| open_error("the path is not UTF-8"))?;
        let path_option =
            CString::new(format!("--path={text}")).map_err(|_| open_error("the path contains NUL"))?;
        let mut arguments = vec![path_option.clone()];
        for option in options {
            arguments.push(CString::new(option.as_str()).map_err(|_| open_error("an option contains NUL"))?);
        }
        let keeper = connect(library, &arguments).ok_or_else(|| {
            open_error(
                "the library refused it and wrote the reason to stderr: another process may hold it, or it may be damaged or not writable",
            )
        })?;
        exit::engine_opened();
        Ok(Arc::new(Engine { library, path: path_option, keeper: Mutex::new(keeper) }))
    }

    /// A connection with the engine's defaults.
    pub(crate) fn connect(self: &Arc<Self>) -> Result<Connection, EngineError> {
        let raw =
            connect(self.library, std::slice::from_ref(&self.path)).ok_or_else(|| EngineError::Open {
                path: self.path.to_string_lossy().into_owned(),
                reason: "no further connection; the library wrote the reason to stderr".to_owned(),
            })?;
        Ok(Connection { engine: Arc::clone(self), raw })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the handle came from `connect` and is closed here only; every other connection held an `Arc`
        // of this engine and is gone.
        unsafe { (self.library.close)(*keeper) };
        exit::engine_closed();
    }
}

fn connect(library: &Library, options: &[CString]) -> Option<RawConnection> {
    let mut arguments: Vec<*mut c_char> = vec![c"clickhouse".as_ptr().cast_mut()];
    arguments.extend(options.iter().map(|option| option.as_ptr().cast_mut()));
    let count = i32::try_from(arguments.len()).ok()?;
    // SAFETY: `arguments` are live NUL-terminated strings, `count` of them; the library copies them.
    let raw = unsafe { (library.connect)(count, arguments.as_mut_ptr()) };
    (!raw.is_null()).then_some(raw)
}

/// A connection that has run at most preparing statements. What answers with rows consumes it.
pub(crate) struct Connection {
    engine: Arc<Engine>,
    raw: RawConnection,
}

// SAFETY: used by one thread at a time (`&mut self` or by value); the library ties it to no thread.
unsafe impl Send for Connection {}

impl Connection {
    fn library(&self) -> &'static Library {
        self.engine.library
    }

    /// The handle inside the pointer that the library gave out.
    fn handle(&self) -> *mut c_void {
        // SAFETY: `raw` is non-null and points to the handle until it is closed by `Drop`.
        unsafe { *self.raw }
    }

    fn call(
        &self,
        function: unsafe extern "C" fn(
            *mut c_void,
            *const c_char,
            usize,
            *const c_char,
            usize,
            *const *const c_char,
            *const usize,
            *const *const c_char,
            *const usize,
            usize,
        ) -> *mut c_void,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> *mut c_void {
        let names: Vec<*const c_char> = parameters.iter().map(|(name, _)| name.as_ptr().cast()).collect();
        let name_lengths: Vec<usize> = parameters.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<*const c_char> = parameters.iter().map(|(_, value)| value.as_ptr().cast()).collect();
        let value_lengths: Vec<usize> = parameters.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: all pointers are live for the call, each with its length; the library copies what it keeps.
        unsafe {
            function(
                self.handle(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        }
    }

    /// Runs a statement that answers nothing and prepares the connection: `SET`, `USE`. After an error the
    /// connection must be dropped.
    pub(crate) fn prepare(&mut self, sql: &str) -> Result<(), EngineError> {
        let raw = self.call(self.library().query, sql.as_bytes(), "Null", &[]);
        Answer::take(self.library(), raw).map(drop)
    }

    /// Runs any statement and holds its whole answer in memory.
    pub(crate) fn query(
        self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Answer, EngineError> {
        let raw = self.call(self.library().query, sql, format, parameters);
        Answer::take(self.library(), raw)
    }

    /// Runs a `SELECT` whose rows come in chunks.
    pub(crate) fn stream(
        self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Stream, EngineError> {
        let raw = self.call(self.library().stream_query, sql, format, parameters);
        let head = Answer::take(self.library(), raw)?;
        Ok(Stream { head: Some(head), connection: self, ended: false })
    }

    /// Begins an `INSERT` whose rows are appended in `format`. `sql` has no `FORMAT` clause.
    pub(crate) fn insert(
        self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Insert, EngineError> {
        let raw = self.call(self.library().insert, sql, format, parameters);
        let insert = Insert { raw, connection: self };
        match insert.error() {
            Some(text) => Err(EngineError::exception(text)),
            None => Ok(insert),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle is live and closed here only; streams own their connection and release their own
        // handles before it.
        unsafe { (self.library().close)(self.raw) };
    }
}

/// What a statement answered: bytes in the library's memory.
pub(crate) struct Answer {
    library: &'static Library,
    raw: RawResult,
}

// SAFETY: the result is an immutable buffer with counters, tied to no thread.
unsafe impl Send for Answer {}

impl Answer {
    /// Takes ownership of a result; its error, if it has one, is returned instead.
    fn take(library: &'static Library, raw: RawResult) -> Result<Answer, EngineError> {
        if raw.is_null() {
            return Err(EngineError::exception("the engine gave no answer".to_owned()));
        }
        let answer = Answer { library, raw };
        // SAFETY: the handle is live; the text is copied at once.
        match unsafe { text((library.result_error)(raw)) } {
            Some(error) => Err(EngineError::exception(error)),
            None => Ok(answer),
        }
    }

    /// Rows in this answer.
    pub(crate) fn rows(&self) -> u64 {
        // SAFETY: the handle is live until drop.
        unsafe { (self.library.result_rows)(self.raw) }
    }

    /// What the statement read and wrote.
    pub(crate) fn summary(&self) -> Summary {
        // SAFETY: the handle is live until drop.
        unsafe {
            Summary {
                rows_read: (self.library.result_rows_read)(self.raw),
                bytes_read: (self.library.result_bytes_read)(self.raw),
                rows_written: (self.library.result_rows_written)(self.raw),
                bytes_written: (self.library.result_bytes_written)(self.raw),
            }
        }
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the handle is live; the buffer belongs to it, is not written any more, and has that length.
        unsafe {
            let buffer = (self.library.result_buffer)(self.raw);
            let length = (self.library.result_length)(self.raw);
            if buffer.is_null() || length == 0 { &[] } else { std::slice::from_raw_parts(buffer, length) }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the handle is live and destroyed here only.
        unsafe { (self.library.result_destroy)(self.raw) };
    }
}

/// Counters of a statement, as the library reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) rows_read: u64,
    pub(crate) bytes_read: u64,
    /// Includes rows that deduplication dropped.
    pub(crate) rows_written: u64,
    pub(crate) bytes_written: u64,
}

/// A running `SELECT`. Dropping it before its end cancels it.
pub(crate) struct Stream {
    /// Released before the connection.
    head: Option<Answer>,
    connection: Connection,
    ended: bool,
}

impl Stream {
    /// The next chunk; `None` at the end. Each chunk is a whole document of the format.
    pub(crate) fn next(&mut self) -> Result<Option<Answer>, EngineError> {
        let Some(head) = self.head.as_ref().filter(|_| !self.ended) else {
            return Ok(None);
        };
        let library = self.connection.library();
        // SAFETY: both handles are live, and no other thread uses them (`&mut self`).
        let raw = unsafe { (library.stream_fetch)(self.connection.handle(), head.raw) };
        let chunk = Answer::take(library, raw).inspect_err(|_| self.ended = true)?;
        // A result without rows is one chunk with the format's header; totals are a chunk without rows.
        if chunk.rows() == 0 && chunk.as_ref().is_empty() {
            self.ended = true;
            return Ok(None);
        }
        Ok(Some(chunk))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(head) = self.head.take()
            && !self.ended
        {
            // SAFETY: both handles are live; the stream is not used again.
            unsafe { (self.connection.library().stream_cancel)(self.connection.handle(), head.raw) };
        }
    }
}

/// A running `INSERT`. Dropping it before [`Insert::finish`] aborts it.
pub(crate) struct Insert {
    raw: RawInsert,
    connection: Connection,
}

// SAFETY: used by one thread at a time; the library ties it to no thread.
unsafe impl Send for Insert {}

impl Insert {
    fn error(&self) -> Option<String> {
        // SAFETY: the handle is live until drop; the text is copied at once.
        unsafe { text((self.connection.library().insert_error)(self.raw)) }
    }

    /// Hands over some bytes of the rows; blocks while the engine is behind.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the handle is live; the library copies the bytes.
        let state = unsafe {
            (self.connection.library().insert_append)(self.raw, bytes.as_ptr().cast(), bytes.len())
        };
        if state == 0 {
            return Ok(());
        }
        // The reason is known for certain only when the stream is finished.
        // SAFETY: the handle is live.
        let raw = unsafe { (self.connection.library().insert_done)(self.raw) };
        let error = match Answer::take(self.connection.library(), raw) {
            Err(error) => error,
            Ok(_) => EngineError::exception(
                self.error().unwrap_or_else(|| "the engine stopped reading the rows of an insert".to_owned()),
            ),
        };
        Err(error)
    }

    /// No more rows: waits until they are stored.
    pub(crate) fn finish(self) -> Result<Summary, EngineError> {
        // SAFETY: the handle is live and is not appended to again.
        let raw = unsafe { (self.connection.library().insert_done)(self.raw) };
        let answer = Answer::take(self.connection.library(), raw)?;
        Ok(answer.summary())
    }

    /// Gives the rows up. A stream within one block leaves nothing behind.
    pub(crate) fn abort(self) {
        // SAFETY: the handle is live; destroying it follows in `Drop`.
        unsafe { (self.connection.library().insert_cancel)(self.raw) };
    }
}

impl Drop for Insert {
    fn drop(&mut self) {
        // SAFETY: the handle is live and destroyed here only, before its connection; the library cancels a
        // stream that is not finished.
        unsafe { (self.connection.library().insert_destroy)(self.raw) };
    }
}

/// Copies a C string that may be null.
///
/// # Safety
/// `pointer` is null or points to a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}

/// Whether the library refused to stream a statement because only `SELECT` can be streamed.
pub(crate) fn is_not_streamable(error: &EngineError) -> bool {
    matches!(error, EngineError::Exception { code: 36, text } if text.contains("Streaming query is not supported")
        && exception_code(text) == Some(36))
}
