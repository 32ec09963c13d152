//! An App's webhook deliveries: which failed, and to have them sent again
//! (<https://docs.github.com/en/rest/apps/webhooks>).

use std::{fmt::Write, rc::Rc};

use super::{
    GitHub, PER_PAGE,
    answer::{self, Call, Need},
    read,
    secret::Credentials,
    segment, wire,
};
use crate::{
    adapters::http::Reply,
    error::CallError,
    ports::{Clock, Deliveries, Delivery, DeliveryPage, SecretSource},
};

impl<S: SecretSource, C: Clock> Deliveries for GitHub<S, C> {
    async fn apps(&self) -> Result<Vec<String>, CallError> {
        let all = self.credentials().await?;
        let is_app = |it: &&Rc<Credentials>| matches!(***it, Credentials::App(_));
        Ok(all.iter().filter(is_app).map(|it| it.id().to_owned()).collect())
    }

    async fn deliveries(&self, of: &str, cursor: Option<&str>) -> Result<DeliveryPage, CallError> {
        let page = self.delivery_page(of, "", cursor, |reply| matches!(reply.status, 200 | 404)).await?;
        Ok(page.unwrap_or_default())
    }

    async fn failed_deliveries(
        &self,
        of: &str,
        cursor: Option<&str>,
    ) -> Result<Option<DeliveryPage>, CallError> {
        if self.known.cannot_filter.get() {
            return Ok(None);
        }
        let expected = |reply: &Reply| matches!(reply.status, 200 | 400 | 404 | 422);
        let page = self.delivery_page(of, "&status=failure", cursor, expected).await?;
        // A server that does not know the parameter refuses it, or takes no notice of it.
        let page = page.filter(|(page, _)| !page.iter().any(Delivery::is_delivered));
        self.known.cannot_filter.set(page.is_none());
        Ok(page)
    }

    async fn redeliver(&self, of: &str, id: u64) -> Result<bool, CallError> {
        let call = Call::new("POST", format!("/app/hook/deliveries/{id}/attempts"), Need::App);
        let expected = |reply: &Reply| matches!(reply.status, 202 | 400 | 404 | 422);
        Ok(self.ask_as_app(of, &call, None, expected).await?.status == 202)
    }
}

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    /// `None` when the server refuses the parameters.
    async fn delivery_page(
        &self,
        of: &str,
        filter: &str,
        cursor: Option<&str>,
        expected: impl Fn(&Reply) -> bool,
    ) -> Result<Option<DeliveryPage>, CallError> {
        let mut path = format!("/app/hook/deliveries?per_page={PER_PAGE}{filter}");
        if let Some(cursor) = cursor {
            // Writing to a String cannot fail.
            let _ = write!(path, "&cursor={}", segment(cursor));
        }
        let call = Call::new("GET", path, Need::App);
        let reply = self.ask_as_app(of, &call, None, expected).await?;
        match reply.status {
            404 => {
                if self.known.have_no_webhook.borrow_mut().insert(of.to_owned()) {
                    tracing::warn!(
                        app = of,
                        "the App has no webhook: failed deliveries of other webhooks are not sent again"
                    );
                }
                return Ok(Some(DeliveryPage::default()));
            }
            400 | 422 => return Ok(None),
            _ => {}
        }
        let deliveries: Vec<wire::Delivery> = read(&call, &reply)?;
        let next = reply.headers.get("link").and_then(answer::next_cursor);
        Ok(Some((deliveries.into_iter().map(Delivery::from).collect(), next)))
    }
}
