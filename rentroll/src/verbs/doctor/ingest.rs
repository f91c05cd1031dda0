//! What is needed to take events over HTTP: somebody who may send, and certificates that can be used.

use std::os::unix::fs::PermissionsExt as _;

use chrono::Utc;
use rentroll_collector::http::tls::Tls;
use rentroll_schemas::token::Sends;

use super::Finding;
use crate::cli::said;
use crate::config::Config;
use crate::context;

pub(super) fn all(config: &Config) -> Vec<Finding> {
    if !config.ingest_is_on() {
        return vec![Finding::ok("ingest", "off: no tokens, and no collector.http.listen")];
    }
    let mut findings = vec![tokens(config)];
    if let Some(tls) = context::ingest_tls(config) {
        findings.push(match Tls::open(tls) {
            Ok(_) => Finding::ok("ingest", "the certificates can be used"),
            Err(error) => Finding::fail("ingest", error.to_string(), "mend the file, or name another one"),
        });
    }
    findings
}

fn tokens(config: &Config) -> Finding {
    let path = config.path(&config.files.tokens);
    let tokens = match context::tokens(config) {
        Ok(tokens) => tokens,
        Err(error) => {
            return Finding::fail("tokens", said(&error), "mend the file; `rentroll tokens` writes it");
        }
    };
    let now = Utc::now();
    let good = tokens.tokens.iter().filter(|token| token.is_good(now));
    let sending = good.clone().filter(|token| token.grant.sends() != Sends::Nothing).count();
    let has_certificates = config.collector.http.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if sending == 0 && !has_certificates {
        return Finding::warn(
            "tokens",
            format!("none that is good to send with in {}: nobody may send events", path.display()),
            "`rentroll tokens create`",
        );
    }
    let mode = std::fs::metadata(&path).map_or(0, |found| found.permissions().mode() & 0o777);
    if mode & 0o022 != 0 {
        return Finding::fail(
            "tokens",
            format!(
                "{} may be written by others (mode {mode:o}): they could let themselves in",
                path.display()
            ),
            format!("chmod 600 {}", path.display()),
        );
    }
    Finding::ok(
        "tokens",
        format!("{} that are good, of {}; {sending} send events", good.count(), tokens.tokens.len()),
    )
}
