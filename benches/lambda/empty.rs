//! A function that does nothing: what lambda_runtime itself costs, beside which `make bench` puts every figure. It
//! panics when asked to, which shows that functions built with this profile outlive a panic.
#![forbid(unsafe_code)]

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        assert!(event.payload.get("panic").is_none(), "asked for");
        Ok::<_, Error>(Value::Null)
    }))
    .await
}
