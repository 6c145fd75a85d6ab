//! Prints the OpenAPI document of the REST API, as `docs/openapi.json` has it.

use std::io::{self, Write as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let document = leasehold_secret_broker::api::document().to_pretty_json()?;
    writeln!(io::stdout(), "{document}")?;
    Ok(())
}
