//! What the queries of a token may take together: so many seconds a minute.
//!
//! Turns let no token stand before another one; a budget keeps one that asks without end from holding its turns for good. What is
//! spent comes back steadily, at that many seconds a minute, and no more than a minute's worth is kept for later. What a query took is
//! known when it ends: those at work when nothing is left are not cut off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);
/// So many tokens are looked through for those that have all of their budget again.
const SWEPT_AT: usize = 1_024;

/// How much of a minute a token's queries may take, all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget(pub(super) Duration);

#[derive(Clone, Copy)]
struct Spent {
    took: Duration,
    at: Instant,
    budget: Budget,
}

/// What tokens have spent.
#[derive(Default)]
pub(super) struct Budgets(Mutex<HashMap<Arc<str>, Spent>>);

impl Spent {
    /// What of it has not come back.
    fn now(&self) -> Duration {
        let back = self.at.elapsed().mul_f64(self.budget.0.div_duration_f64(MINUTE));
        self.took.saturating_sub(back)
    }
}

impl Budgets {
    /// That something is left.
    ///
    /// # Errors
    /// How long it takes until something is.
    pub(super) fn check(&self, token: &str, budget: Budget) -> Result<(), Duration> {
        let spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = spent.get(token).map_or(Duration::ZERO, Spent::now);
        match now < budget.0 {
            true => Ok(()),
            false => Err((now - budget.0).mul_f64(MINUTE.div_duration_f64(budget.0))),
        }
    }

    /// Spends what a query took.
    pub(super) fn spend(&self, token: &Arc<str>, budget: Budget, took: Duration) {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = spent.get(token).map_or(Duration::ZERO, Spent::now);
        spent.insert(token.clone(), Spent { took: before + took, at: Instant::now(), budget });
        if spent.len().is_multiple_of(SWEPT_AT) {
            spent.retain(|_, spent| !spent.now().is_zero());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_comes_back_with_time() {
        let (budgets, budget) = (Budgets::default(), Budget(Duration::from_secs(20)));
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        budgets.spend(&one, budget, Duration::from_secs(15));
        assert_eq!(budgets.check(&one, budget), Ok(()));
        // One that ends late may pass the budget; it is paid back all the same.
        budgets.spend(&one, budget, Duration::from_secs(10));
        assert_eq!(budgets.check(&one, budget), Err(Duration::from_secs(15)));
        assert_eq!(budgets.check(&other, budget), Ok(()));
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(budgets.check(&one, budget).is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(budgets.check(&one, budget), Ok(()));
        // An hour without a query saves nothing up.
        tokio::time::advance(Duration::from_secs(3_600)).await;
        budgets.spend(&one, budget, Duration::from_secs(21));
        assert_eq!(budgets.check(&one, budget), Err(Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_have_all_again_are_forgotten() {
        let (budgets, budget) = (Budgets::default(), Budget(Duration::from_secs(20)));
        let spend = |nth: usize| budgets.spend(&nth.to_string().into(), budget, Duration::from_secs(1));
        (0..SWEPT_AT - 1).for_each(spend);
        tokio::time::advance(MINUTE).await;
        spend(SWEPT_AT);
        assert_eq!(budgets.0.lock().unwrap().len(), 1);
    }
}
