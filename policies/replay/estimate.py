"""Means over all traffic from weighted draws of it: self-normalised, and doubly robust.

Self-normalised (SNIPS; Hájek 1971; Swaminathan and Joachims 2015, arXiv:1506.02374): sum(w y) / sum(w) with w the
inverse of the probability of having been seen. Doubly robust (Dudík, Langford and Li 2011, arXiv:1103.4601; in survey
sampling the difference estimator, Särndal et al. 1992, chapter 6): the mean over *all* requests of a prediction m from
what is known of all of them, corrected by the weighted mean of y - m over those that were seen,

    mean(m) + sum(w (y - m)) / sum(w).

As the probabilities are known, it is right however bad m is; a good m only makes it sharper. m is cross-fitted
(Chernozhukov et al. 2018, arXiv:1608.00060), so that no request is predicted from itself.

Errors are linearised: `influence` has what each independent cluster (a conversation) adds to the error of each mean.
Requests are taken as draws from one traffic; under drift a figure speaks of the traffic that was logged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.bounds import Floats, kish
from policies.learn.rows import Ints
from policies.replay.regression import cross_fitted

FOLDS = 5
BLOCKS = 50


@dataclass(frozen=True, slots=True)
class Means:
    """`values` (k,); `influence` (m, k): what each cluster adds to their errors; its columns sum to about 0.

    `effective`: Kish's number of draws; `draws`, and in how many `clusters`.
    """

    values: Floats
    influence: Floats
    effective: float
    draws: int
    clusters: int

    @property
    def independent(self) -> float:
        """How many draws are independent of each other, whatever those of a cluster have in common."""
        return min(self.effective, self.clusters)

    def covariance(self) -> Floats:
        """Of the values, (k, k): the sandwich over clusters, with a factor for few of them; 1 for single draws."""
        few = self.clusters / max(self.clusters - 1, 1) * max(self.draws - 1, 1) / self.draws
        answer: Floats = few * (self.influence.T @ self.influence)
        return answer

    def skewness(self) -> Floats:
        """Of the values, (k,): the third moment of a mean's error in standard errors; 0 for a mean without error."""
        square: Floats = (self.influence**2).sum(axis=0)
        cube: Floats = (self.influence**3).sum(axis=0)
        answer: Floats = np.divide(cube, square**1.5, out=np.zeros_like(cube), where=square > 0)
        return answer


@dataclass(frozen=True, slots=True)
class Population:
    """All requests that draws were taken from: `features` (N, d); `clusters` (N,): the time block of each.

    `draws` (n,): which of the draws are from it; `drawn` (n,): the row of each of these.
    """

    features: Floats
    clusters: Ints
    draws: Ints
    drawn: Ints


def time_blocks(count: int) -> Ints:
    """The cluster of each of `count` requests in the order of time, where nobody knows conversations.

    Turns of one conversation are near each other in time, so that most of them share a block; there are at most
    `BLOCKS`.
    """
    return np.arange(count, dtype=np.int64) * min(BLOCKS, count) // max(count, 1)


def snips(outcomes: Floats, weights: Floats, clusters: Ints) -> Means:
    """The self-normalised means of `outcomes` (n, k). Raises ValueError without a positive weight."""
    return _augmented(outcomes, np.zeros_like(outcomes), weights, clusters, np.zeros((0, outcomes.shape[1])), None)


def doubly_robust(outcomes: Floats, weights: Floats, clusters: Ints, population: Population) -> Means:
    """The doubly robust means of `outcomes` (n, k) over the population. Raises ValueError without a positive weight."""
    outcomes, weights, clusters = outcomes[population.draws], weights[population.draws], clusters[population.draws]
    folds = clusters % FOLDS
    own, everyone = cross_fitted(population.features[population.drawn], outcomes, weights, folds, population.features)
    places = population.clusters + int(clusters.max()) + 1
    places[population.drawn] = clusters  # a drawn request's own two parts belong together
    return _augmented(outcomes, own, weights, clusters, everyone, places)


def randomised(
    outcomes: Floats,
    teacher: NDArray[np.bool_],
    candidate: Floats,
    weights: Floats,
    clusters: Ints,
    features: Floats,
) -> Means:
    """Doubly robust means of `outcomes` (n, k) of which each request shows those of one arm only.

    `teacher`: it was the teacher's; `candidate`: P(teacher) of the other policy; `weights`: by what the drawn arm is
    more likely under it. Raises ValueError without a positive weight.
    """
    folds = clusters % FOLDS
    own, everyone = np.zeros_like(outcomes), np.zeros_like(outcomes)
    for of_arm, chance in ((teacher, candidate), (~teacher, 1 - candidate)):
        if of_arm.any():
            equal = np.ones(int(of_arm.sum()))
            own[of_arm], predicted = cross_fitted(features[of_arm], outcomes[of_arm], equal, folds[of_arm], features)
            everyone += chance[:, None] * predicted
    return _augmented(outcomes, own, weights, clusters, everyone, clusters)


def _augmented(
    outcomes: Floats,
    predicted: Floats,
    weights: Floats,
    clusters: Ints,
    everyone: Floats,
    places: Ints | None,
) -> Means:
    """`predicted`: of the draws; `everyone`: of the population, in the clusters `places`."""
    total = float(weights.sum())
    if not total > 0:
        raise ValueError("no draw has a positive weight")
    residuals = outcomes - predicted
    correction = weights @ residuals / total
    parts = weights[:, None] * (residuals - correction) / total
    count = len(weights), len(np.unique(clusters))
    if places is None:
        return Means(correction, _by_cluster(parts, clusters), kish(weights), *count)
    base = everyone.mean(axis=0)
    parts = np.vstack([parts, (everyone - base) / len(everyone)])
    return Means(base + correction, _by_cluster(parts, np.concatenate([clusters, places])), kish(weights), *count)


def _by_cluster(parts: Floats, clusters: Ints) -> Floats:
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.zeros((int(index.max()) + 1, parts.shape[1]))
    np.add.at(sums, index, parts)
    return sums
