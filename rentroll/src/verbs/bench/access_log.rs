//! Lines of an access log to raw rows and three rollups, durably, beside awk's sums of the same file.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::measured::{Measured, measure};
use crate::cli::{Exit, WrongUse};
use crate::output::{self, Sheet, grouped};

/// Arguments of `rentroll bench access-log`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rentroll bench access-log                             a million lines, made from the example's
  rentroll bench access-log --log /var/log/nginx/access.log

Exits with 3 if the two sides come to different sums.")]
pub(super) struct Args {
    /// The log; without it the example's lines are repeated to `--lines`.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Lines of the log that is made.
    #[arg(long, default_value_t = 1_000_000, conflicts_with = "log")]
    lines: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// The sums, by tenant would be more, but this is what awk is asked in practice.
const AWK: &str = r#"{ tenants[$1]; n = split($0, part, "\""); split(part[3], field, " "); bytes += field[2] }
END { count = 0; for (tenant in tenants) count++; printf "%d %d %.0f\n", NR, count, bytes }"#;

const EXAMPLE: &str = "examples/access-log";

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let scratch = std::env::temp_dir().join(format!("rentroll-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let result = in_folder(&args, &scratch);
    let _ = std::fs::remove_dir_all(&scratch);
    result
}

fn in_folder(args: &Args, scratch: &Path) -> anyhow::Result<Exit> {
    let log = match &args.log {
        Some(log) => std::path::absolute(log)?,
        None => make_log(&scratch.join("access.log"), args.lines)?,
    };
    // Read once, so that neither side pays for a cold cache.
    let lines = std::io::BufReader::new(std::fs::File::open(&log)?).split(b'\n').count() as u64;
    eprintln!("awk…");
    let awk = measure(Command::new("awk").arg(AWK).arg(&log))?;
    eprintln!("rentroll up --once…");
    let chain = measure(&mut rentroll(scratch, &log, &["up", "--once"])?)?;
    eprintln!("reading the sums back…");
    let books = measure(&mut rentroll(scratch, &log, &["books", "--json"])?)?;
    let books: serde_json::Value = serde_json::from_slice(&books.output.stdout)?;
    let sum = |key: &str| -> u64 {
        books["hours"].as_array().into_iter().flatten().filter_map(|hour| hour[key].as_u64()).sum()
    };
    let (stored, rejected) = (sum("stored"), sum("rejected"));
    let awk_sums = String::from_utf8_lossy(&awk.output.stdout).trim().to_owned();
    let own_sums = sums(scratch, &log, rejected)?;
    let equal = awk_sums == own_sums;
    let ratio = chain.cpu.as_secs_f64() / awk.cpu.as_secs_f64().max(0.001);
    if args.json {
        let side = |measured: &Measured, sums: &str| {
            serde_json::json!({
                "elapsed_ms": measured.elapsed.as_millis() as u64, "cpu_ms": measured.cpu.as_millis() as u64,
                "lines_per_second": rate(lines, measured.elapsed), "lines_per_cpu_second": rate(lines, measured.cpu),
                "lines_tenants_bytes": sums,
            })
        };
        output::json(&serde_json::json!({
            "lines": lines, "stored": stored, "rejected": rejected, "equal": equal, "cpu_ratio": format!("{ratio:.1}"),
            "awk": side(&awk, &awk_sums), "rentroll": side(&chain, &own_sums),
        }))?;
    } else {
        let mut sheet = Sheet::new(&[
            "side",
            ">lines/s",
            ">lines/CPU-s",
            ">elapsed s",
            ">CPU s",
            "lines, tenants, bytes",
        ]);
        for (name, measured, sums) in [("awk", &awk, &awk_sums), ("rentroll up --once", &chain, &own_sums)] {
            sheet.row(&[
                name,
                &grouped(&rate(lines, measured.elapsed).to_string()),
                &grouped(&rate(lines, measured.cpu).to_string()),
                &format!("{:.2}", measured.elapsed.as_secs_f64()),
                &format!("{:.2}", measured.cpu.as_secs_f64()),
                sums,
            ]);
        }
        sheet.print()?;
        eprintln!(
            "{} lines, {stored} stored, {rejected} rejected; the chain takes {ratio:.1} times awk's CPU time; sums {}",
            grouped(&lines.to_string()),
            if equal { "are equal" } else { "DIFFER" }
        );
    }
    Ok(if equal { Exit::Done } else { Exit::DoesNotHold })
}

/// Lines, tenants and bytes as the store has them; rejected lines are lines too.
fn sums(scratch: &Path, log: &Path, rejected: u64) -> anyhow::Result<String> {
    let totals = measure(&mut rentroll(scratch, log, &["tenants", "--totals", "--json"])?)?;
    let totals: serde_json::Value = serde_json::from_slice(&totals.output.stdout)?;
    let of = |key: &str| totals[key].as_str().map(str::to_owned).unwrap_or_else(|| totals[key].to_string());
    let lines = totals["events"].as_u64().unwrap_or_default() + rejected;
    Ok(format!("{lines} {} {}", of("tenants"), of("bytes")))
}

fn rate(lines: u64, time: Duration) -> u64 {
    (lines as f64 / time.as_secs_f64().max(0.000_001)) as u64
}

/// This binary, on a data folder of its own.
fn rentroll(scratch: &Path, log: &Path, arguments: &[&str]) -> anyhow::Result<Command> {
    let example = std::path::absolute(EXAMPLE)?;
    if !example.join("meters.yaml").exists() {
        return Err(WrongUse(format!("no {EXAMPLE} here: run this from the repository's root")).into());
    }
    let config = scratch.join("rentroll.toml");
    let text = format!(
        "[data]\ndir = \"data\"\n[store]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[files]\n\
         meters = {meters:?}\ncatalogue = {catalogue:?}\ncosts = {costs:?}\n[[collector.sources]]\nname = \"bench\"\n\
         kind = \"log\"\npaths = [{log:?}]\nbackfill = true\n",
        meters = example.join("meters.yaml"),
        catalogue = example.join("catalogue.yaml"),
        costs = example.join("costs.yaml"),
    );
    std::fs::write(&config, text)?;
    let mut command = super::this_binary()?;
    command.arg("--config").arg(config).args(arguments);
    Ok(command)
}

/// The example's lines over and over, each time from other addresses, so that tenants grow with the lines.
fn make_log(path: &Path, lines: u64) -> anyhow::Result<PathBuf> {
    use std::io::Write as _;
    let source = Path::new(EXAMPLE).join("access.log");
    let text =
        std::fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for (number, line) in (0..lines).zip(text.lines().cycle()) {
        let round = number / 10_000;
        match line.split_once(' ') {
            Some((address, rest)) if round > 0 => writeln!(file, "{address}.{} {rest}", round % 20)?,
            _ => writeln!(file, "{line}")?,
        }
    }
    file.flush()?;
    Ok(path.to_owned())
}
