//! ClickHouse over HTTP (being written).
