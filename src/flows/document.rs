//! The document of runner classes: read again once a minute. A bad one is told of, once, and the last good one goes on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    sync::Arc,
};

use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use crate::{
    error::{CallError, Class},
    intake::classes::{self, Classes},
    ports::{DocumentSource, Fetched},
};

/// "Taken up within 60 s": with the time that a batch takes.
const READ_AGAIN_AFTER: Duration = Duration::seconds(50);
/// Without a good one, jobs wait for it.
const TRY_AGAIN_AFTER: Duration = Duration::seconds(5);

/// The document, as far as this process knows it.
#[derive(Debug, Default)]
pub struct Document {
    source: Option<Box<dyn DocumentSource>>,
    /// `RUNNER_LABELS`, in lower case.
    common: BTreeSet<String>,
    known: RefCell<DocumentState>,
    /// Whoever comes while the first one is read waits for it.
    turn: Mutex<()>,
    /// A new mistake was told of, and not yet counted.
    told: Cell<u64>,
}

#[derive(Debug, Default)]
struct DocumentState {
    good: Option<Arc<Classes>>,
    mark: Option<String>,
    asked_at: Option<OffsetDateTime>,
    /// Why the newest one is not the one that counts, or is not known.
    wrong: Option<CallError>,
    /// The newest one that was read has mistakes.
    refused: bool,
}

impl Document {
    /// The one that lies there. `common` are labels that jobs of any class may have.
    pub fn at(source: Box<dyn DocumentSource>, common: &[String]) -> Self {
        Document { source: Some(source), common: lower(common), ..Document::default() }
    }

    /// This one, which nobody changes.
    pub fn of(text: &str, common: &[String]) -> Self {
        let document = Document { common: lower(common), ..Document::default() };
        document.take(text);
        document
    }

    /// The classes that count now; `None`: there is no document. An error: there is one, and none that was good was ever
    /// seen.
    pub async fn classes(&self, now: OffsetDateTime) -> Result<Option<Arc<Classes>>, CallError> {
        if let Some(source) = &self.source
            && (self.is_due(now) || self.newest().is_none())
        {
            let _turn = self.turn.lock().await;
            self.read(source.as_ref(), now).await;
        }
        let known = self.known.borrow();
        match (&known.good, &known.wrong) {
            (Some(good), _) => Ok(Some(good.clone())),
            (None, Some(wrong)) => Err(wrong.clone()),
            (None, None) if self.source.is_some() => {
                Err(CallError::new(Class::Transient, "RUNNER_CLASSES: the document was not read to its end"))
            }
            (None, None) => Ok(None),
        }
    }

    async fn read(&self, source: &dyn DocumentSource, now: OffsetDateTime) {
        if self.is_due(now) {
            // Noted before the answer comes: while there is a good one, others need not wait.
            self.known.borrow_mut().asked_at = Some(now);
            let mark = self.known.borrow().mark.clone();
            match source.fetch(mark.as_deref()).await {
                Ok(Fetched::Same) => {
                    let mut known = self.known.borrow_mut();
                    if !known.refused {
                        known.wrong = None;
                    }
                }
                Ok(Fetched::New { text, mark }) => {
                    self.known.borrow_mut().mark = mark;
                    self.take(&text);
                }
                Err(error) => self.tell(error),
            }
        }
    }

    /// The newest good one that was seen, without asking.
    pub(crate) fn newest(&self) -> Option<Arc<Classes>> {
        self.known.borrow().good.clone()
    }

    /// Why classes may be in force that this process has not seen: there may have been a good document between the last
    /// one that it knows and the newest, which is refused or cannot be read. Then nobody's labels are for certain not ours.
    pub(crate) fn doubt(&self) -> Option<CallError> {
        self.known.borrow().wrong.clone()
    }

    /// How many mistakes were told of since this was asked last: each is counted once.
    pub fn new_mistakes(&self) -> u64 {
        self.told.take()
    }

    fn is_due(&self, now: OffsetDateTime) -> bool {
        let known = self.known.borrow();
        let after = if known.good.is_some() { READ_AGAIN_AFTER } else { TRY_AGAIN_AFTER };
        known.asked_at.is_none_or(|at| now - at >= after)
    }

    fn take(&self, text: &str) {
        match classes::read(text, &self.common) {
            Ok(classes) => {
                let mut known = self.known.borrow_mut();
                if known.good.as_ref().is_none_or(|good| **good != classes) {
                    tracing::info!(
                        version = classes.version,
                        classes = classes.classes.len(),
                        "runner classes"
                    );
                }
                known.good = Some(Arc::new(classes));
                known.wrong = None;
                known.refused = false;
            }
            Err(mistakes) => {
                self.known.borrow_mut().refused = true;
                let goes_on = self.known.borrow().good.as_ref().map(|good| good.version);
                let then = match goes_on {
                    Some(version) => format!("version {version} goes on"),
                    None => "jobs wait for a good one".to_owned(),
                };
                let what = format!("RUNNER_CLASSES: the document is refused, and {then}: {mistakes}");
                self.tell(CallError::new(Class::NeedsOperator, what));
            }
        }
    }

    /// What can pass by itself is no mistake of anybody's.
    fn tell(&self, error: CallError) {
        let mut known = self.known.borrow_mut();
        if known.wrong.as_ref() == Some(&error) {
            return;
        }
        if error.class == Class::NeedsOperator {
            tracing::error!("{error}");
            self.told.set(self.told.get() + 1);
        } else {
            tracing::warn!(%error, "the document of runner classes could not be read");
        }
        known.wrong = Some(error);
    }
}

fn lower(labels: &[String]) -> BTreeSet<String> {
    labels.iter().map(|label| label.to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use futures_util::{FutureExt, future::LocalBoxFuture};

    use super::*;

    type Answer = Result<Fetched, CallError>;

    /// The marks that were known when it was asked, and what is there.
    #[derive(Debug, Clone, Default)]
    struct Bucket {
        asked: Rc<RefCell<Vec<Option<String>>>>,
        there: Rc<RefCell<Option<Answer>>>,
        slow: bool,
    }

    impl Bucket {
        fn holds(&self, text: &str, mark: &str) {
            *self.there.borrow_mut() = Some(Ok(Fetched::New { text: text.into(), mark: Some(mark.into()) }));
        }
    }

    impl DocumentSource for Bucket {
        fn fetch<'a>(&'a self, known: Option<&'a str>) -> LocalBoxFuture<'a, Answer> {
            self.asked.borrow_mut().push(known.map(str::to_owned));
            let answer = match &*self.there.borrow() {
                Some(Ok(Fetched::New { mark, .. })) if mark.as_deref() == known => Ok(Fetched::Same),
                Some(answer) => answer.clone(),
                None => Err(CallError::new(Class::Transient, "nobody is there")),
            };
            let slow = self.slow;
            Box::pin(async move {
                if slow {
                    tokio::task::yield_now().await;
                }
                answer
            })
        }
    }

    fn version(document: &Document, seconds: i64) -> Result<u64, Class> {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds);
        let classes = document.classes(now).now_or_never().expect("at once");
        classes.map(|classes| classes.expect("a document").version).map_err(|error| error.class)
    }

    fn text(version: u32, labels: &str) -> String {
        format!(r#"{{"version": {version}, "classes": [{{"name": "a", "labels": ["{labels}"]}}]}}"#)
    }

    #[test]
    fn the_last_good_one_goes_on_and_each_mistake_is_told_once() {
        let place = Bucket::default();
        let document = Document::at(Box::new(place.clone()), &[]);
        assert_eq!(version(&document, 0), Err(Class::Transient));
        assert_eq!(document.new_mistakes(), 0, "it passes by itself");
        place.holds(&text(1, "cpu=2"), "a");
        assert_eq!(version(&document, 4), Err(Class::Transient), "not asked so soon");
        assert_eq!(version(&document, 5), Err(Class::NeedsOperator));
        assert_eq!((document.new_mistakes(), document.new_mistakes()), (1, 0));
        place.holds(&text(2, "big"), "b");
        assert_eq!(version(&document, 10), Ok(2));
        place.holds(&text(3, "cpu=2"), "c");
        assert_eq!(version(&document, 59), Ok(2), "read again after a while");
        assert_eq!(document.new_mistakes(), 0);
        for seconds in [60, 110, 160] {
            assert_eq!(version(&document, seconds), Ok(2));
        }
        assert_eq!(document.new_mistakes(), 1, "once");
        assert!(document.doubt().is_some());
        *place.there.borrow_mut() = None;
        assert_eq!((version(&document, 210), document.new_mistakes()), (Ok(2), 0));
        place.holds(&text(4, "big"), "d");
        assert_eq!(version(&document, 260), Ok(4));
        assert_eq!(document.doubt(), None);
        *place.there.borrow_mut() = None;
        assert_eq!((version(&document, 310), document.doubt().is_some()), (Ok(4), true));
        place.holds(&text(4, "big"), "d");
        assert_eq!(
            (version(&document, 360), document.doubt()),
            (Ok(4), None),
            "the same, and it can be read"
        );
        place.holds(&text(5, "cpu=2"), "e");
        assert_eq!((version(&document, 410), document.doubt().is_some()), (Ok(4), true));
        *place.there.borrow_mut() = None;
        assert_eq!(version(&document, 460), Ok(4));
        place.holds(&text(5, "cpu=2"), "e");
        assert_eq!((version(&document, 510), document.doubt().is_some()), (Ok(4), true), "the same bad one");
        let marks: Vec<_> = place.asked.borrow().iter().flatten().cloned().collect();
        assert_eq!(marks[..6], ["a", "b", "c", "c", "c", "c"], "what is known is not sent again");
    }

    /// A batch's records ask at the same time, and none may take it that there are no classes.
    #[tokio::test]
    async fn whoever_comes_while_the_first_is_read_waits_for_it() {
        let place = Bucket { slow: true, ..Bucket::default() };
        place.holds(&text(1, "big"), "a");
        let document = Document::at(Box::new(place.clone()), &[]);
        let now = OffsetDateTime::UNIX_EPOCH;
        let version = async || document.classes(now).await.map(|classes| classes.map(|it| it.version));
        assert_eq!(tokio::join!(version(), version()), (Ok(Some(1)), Ok(Some(1))));
        assert_eq!(place.asked.borrow().len(), 1);
    }

    #[test]
    fn one_that_nobody_changes() {
        let common = ["Fargate".to_owned()];
        assert_eq!(version(&Document::of(&text(7, "big"), &common), 0), Ok(7));
        assert_eq!(version(&Document::of("{", &common), 0), Err(Class::NeedsOperator));
        let none = Document::default().classes(OffsetDateTime::UNIX_EPOCH).now_or_never();
        assert_eq!(none, Some(Ok(None)));
    }
}
