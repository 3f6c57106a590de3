//! The transactions of one connection, and the ERRORs that belong to one of them without naming it.
//!
//! Kept by [`super::outbox`], which matches the answers that name a receipt. ActiveMQ handles the frames of a
//! connection in order, so what it says to a SEND without a receipt belongs to the next transaction that is
//! answered.

#[derive(Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Transactions {
    /// Those that are not answered.
    open: usize,
    /// Whether there was any.
    any: bool,
    /// What the broker said to a SEND of the next one that is answered.
    complaint: Option<String>,
    /// Refused COMMITs whose complaint has not come: ActiveMQ writes these two ERRORs in either order.
    owed: usize,
}

impl Transactions {
    /// One more is on its way.
    pub(super) fn open(&mut self) {
        self.open += 1;
        self.any = true;
    }

    /// The COMMIT of one was answered; returns what that means. A transaction that the broker complained about is
    /// refused, whatever it says to COMMIT: ActiveMQ confirms it where a SEND was wrong in itself (a header), and
    /// carries it out without that SEND.
    pub(super) fn close(&mut self, result: Result<(), String>) -> Result<(), String> {
        self.open -= 1;
        match (self.complaint.take(), result) {
            (Some(complaint), _) => Err(complaint),
            (None, Ok(())) => Ok(()),
            (None, Err(detail)) => {
                self.owed += 1;
                Err(detail)
            }
        }
    }

    /// Takes an ERROR that names no receipt; false where there was no transaction that it could belong to.
    pub(super) fn complain(&mut self, text: String) -> bool {
        if self.owed > 0 {
            self.owed -= 1;
        } else if self.open > 0 {
            self.complaint.get_or_insert(text);
        }
        self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(text: &str) -> Result<(), String> {
        Err(text.into())
    }

    #[test]
    fn a_complaint_refuses_the_next_transaction_and_no_other() {
        let mut transactions = Transactions::default();
        assert!(!transactions.complain("before any".into()));
        transactions.open();
        transactions.open();
        assert!(transactions.complain("bad header".into()));
        assert_eq!(transactions.close(Ok(())), no("bad header"));
        assert_eq!(transactions.close(Ok(())), Ok(()));
    }

    #[test]
    fn a_complaint_that_comes_after_its_refused_commit_refuses_nothing_else() {
        let mut transactions = Transactions::default();
        transactions.open();
        transactions.open();
        assert_eq!(transactions.close(no("COMMIT FAILED")), no("COMMIT FAILED"));
        assert!(transactions.complain("bad header".into()));
        assert_eq!(transactions.close(Ok(())), Ok(()));
    }
}
