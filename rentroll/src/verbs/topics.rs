//! `rentroll topics create`: make the event log's topics in Kafka.

use std::time::Duration;

use clap::Subcommand;
use rentroll_engines::log::kafka::topics::{Difference, TopicSettings, create_topics};

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
    /// there already are compared and left as they are.
    #[command(after_help = "\
Examples:
  rentroll topics create --replication 3
  rentroll topics create --replication 3 --retention-days 14

Running it again changes nothing. Exits with 3 if a topic that is there has other settings than those asked for; each
is named, with what was found and what was asked for.")]
    Create {
        /// Copies of each partition; with 3 or more an append needs all but one of them (min.insync.replicas).
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
    let mut is_as_asked = true;
    for topic in create_topics(&context::kafka_config(&config), &settings).await? {
        let what = if topic.created { "created" } else { "is there" };
        output::line(&format!("{}: {what}, {} partitions", topic.name, settings.partitions))?;
        for Difference { setting, found, wanted } in topic.differences {
            is_as_asked = false;
            let found = if found.is_empty() { "not set" } else { &found };
            eprintln!("warning: {}: {setting} is {found}, not {wanted}", topic.name);
        }
    }
    if is_as_asked {
        return Ok(Exit::Done);
    }
    eprintln!(
        "topics that are there are left as they are: ask for what they have, or change them with Kafka's \
         kafka-configs.sh (replication: kafka-reassign-partitions.sh)"
    );
    Ok(Exit::DoesNotHold)
}
