"""How far a discount lets values see: whether discounted returns tell the better episodes of a data set apart."""

from collections.abc import Sequence

import numpy as np

from reverie.data import Dataset, rewards_to_go

DISCOUNTS = (0.99, 0.995, 0.997, 0.999)


def order_by_discount(data: Dataset, discounts: Sequence[float] = DISCOUNTS) -> dict[float, float]:
    """By discount, Spearman's correlation of returns with discounted returns, in [-1, 1], of the better half of the
    episodes: 1 where the discount puts them in the order of their returns, 0 where it says nothing of it.

    Where it is low, values at an episode's start cannot tell which way of acting is the best in the end, and a larger
    discount can. Empty without rewards, and where fewer than 3 episodes or all of one return are left.
    """
    from scipy.stats import spearmanr  # whose import takes as long as JAX's

    if data.rewards is None:
        return {}
    better = data.returns >= np.median(data.returns)
    returns, starts = data.returns[better], data.episodes[better, 0]
    if len(returns) < 3 or np.ptp(returns) == 0:
        return {}
    return {discount: float(spearmanr(returns, rewards_to_go(data, discount)[starts])[0]) for discount in discounts}
