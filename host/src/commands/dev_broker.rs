//! `stompbox dev-broker`: the embedded broker on its own.

use std::process::ExitCode;

use anyhow::Context;

use crate::{
    cli,
    console::say,
    dev_broker::{BrokerOptions, DevBroker},
    shutdown::Signals,
};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// The address cannot be listened on.
pub fn dev_broker(args: &cli::DevBroker) -> anyhow::Result<ExitCode> {
    super::runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let broker = DevBroker::bind(args.listen, BrokerOptions::default())
            .await
            .with_context(|| format!("cannot listen on {}: choose another with --listen", args.listen))?;
        say(format_args!("development broker on {}, in memory: nothing survives its end", broker.local_addr()));
        broker.run(async move { tracing::info!("{} received", signals.end().await) }).await;
        Ok(ExitCode::SUCCESS)
    })
}
