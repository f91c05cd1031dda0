//! The HTTP face: what a ClickHouse server is to its clients, over the engine in this process.
//!
//! The `clickhouse` crate, curl, clickhouse-connect, @clickhouse/client and Grafana's data source take it for a
//! server; the foreign clients' tests in `tests/clients/` hold it to that. It guarantees:
//!
//! - **no answer without a credential**, but for `/ping`; there is one user, and it may do everything that the
//!   engine can, which includes reading files, fetching URLs and ending the process. It listens on loopback
//!   unless told otherwise, and speaks plain HTTP: put a TLS proxy before it, or use a server, to go further;
//! - **one connection of the engine per request**, closed after it: settings, databases and the partial output
//!   of a failed query cannot reach another request;
//! - **an error is never taken for an end**: before the first byte it is a status with ClickHouse's code and
//!   words; after it, the answer ends with ClickHouse's tagged exception block and a broken connection. With
//!   `wait_end_of_query=1` it is always a status;
//! - **bounded memory**: rows stream in both directions; queries, their number and what waits for a slow client
//!   are limited. Formats that are one document (`JSON`, `Parquet`) are held by the engine, under its limit;
//! - **a client that goes away ends its query.**
//!
//! Deliberately absent: sessions (and with them temporary tables), users and roles, external data, zstd and
//! brotli.

mod block;
mod cancel;
mod fault;
mod format;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod intake;
mod native;
mod outlet;
mod request;
mod run;
mod server;
mod statement;

use fault::Fault;
pub(crate) use server::{Face, FaceConfig, FaceError};
