//! `rentroll topics create`: make the event log's topics in Kafka.

use std::time::Duration;

use clap::Subcommand;
use rentroll_engines::log::kafka::topics::{TopicSettings, create_topics};

use crate::cli::{Exit, WrongUse};
use crate::config::LogKind;
use crate::context::{self, Context};
use crate::output;

/// Arguments of `rentroll topics`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make usage, usage.overflow and usage.rejects, with `log.partitions` partitions each. Topics that are
    /// there already are left as they are, and compared.
    #[command(after_help = "\
Examples:
  rentroll topics create --replication 3
  rentroll topics create --replication 3 --retention-days 14")]
    Create {
        /// Copies of each partition; with 3 or more an append needs two of them (min.insync.replicas).
        #[arg(long, default_value_t = 1)]
        replication: u16,
        /// How long Kafka keeps records, by their arrival.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=3650))]
        retention_days: u64,
    },
}

/// Runs it.
///
/// # Errors
/// Brokers away, or topics that are there with other partitions.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let config = context.config()?;
    if config.log.kind != LogKind::Kafka {
        return Err(
            WrongUse("log.kind is \"embedded\": the embedded log makes its topics by itself".into()).into()
        );
    }
    let Action::Create { replication, retention_days } = args.action;
    let settings = TopicSettings {
        partitions: config.log.partitions,
        replication,
        retention: Duration::from_secs(retention_days * 86_400),
    };
    for topic in create_topics(&context::kafka_config(&config), &settings).await? {
        let what = if topic.created { "created" } else { "is there" };
        output::line(&format!("{}: {what}, {} partitions", topic.name, settings.partitions))?;
        for difference in topic.differences {
            output::line(&format!(
                "  {} is {}, not {}",
                difference.setting, difference.found, difference.wanted
            ))?;
        }
    }
    Ok(Exit::Done)
}
