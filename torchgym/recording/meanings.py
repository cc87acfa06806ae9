"""What recorded columns mean: tables of units and words; features and rewards tell theirs in their own tables."""

from __future__ import annotations

# Unit, kind and meaning of the rows of `torchgym.readout.paths.ENTRIES` that describe the market.
MARKET: dict[str, tuple[str, str, str]] = {
    "mid": ("currency", "market", "halfway between the best bid and ask"),
    "close": ("currency", "market", "last price traded at"),
    "bid": ("currency", "market", "best bid"),
    "ask": ("currency", "market", "best ask"),
    "volume": ("shares", "market", "shares traded in the tick"),
    "fills": ("orders", "market", "orders filled in the tick"),
    "bid_depth": ("shares", "market", "shares resting within 10 points of the best bid"),
    "ask_depth": ("shares", "market", "shares resting within 10 points of the best ask"),
    "buys": ("shares", "market", "shares bought in the tick by orders that came in"),
    "sells": ("shares", "market", "shares sold in the tick by orders that came in"),
    "value": (
        "currency",
        "hidden",
        "fundamental value, which no trader knows; seen with information='privileged' only",
    ),
    "estimate": ("currency", "market", "public estimate of value; not shown to the learner with information='none'"),
    "news": ("fraction", "market", "effect on the log price that the headline of the tick implies; 0 without one"),
    "maker_shares": ("shares", "hidden", "shares that all makers own together, measured from what they began with"),
    "maker_cash": ("currency", "hidden", "cash that all makers own together, measured from what they began with"),
}

# Unit and meaning of what `Market.step` tells of the learner's account.
ACCOUNT: dict[str, tuple[str, str]] = {
    "position": ("shares", "what the learner holds of the symbol, negative when short"),
    "equity": ("currency", "cash and marked positions in all symbols"),
    "cash": ("currency", "the learner's cash"),
    "realized_pnl": ("currency", "profit of closed positions so far, less fees and borrow"),
    "fees": ("currency", "commission paid so far"),
    "borrow": ("currency", "paid so far for short positions"),
}

# Unit and meaning of the learner's account as it is observed.
OBSERVED_ACCOUNT: dict[str, tuple[str, str]] = {
    "account_position": ("fraction", "position in the symbol over the position limit"),
    "account_cash": ("fraction", "cash over the starting cash, less 1"),
    "account_equity": ("fraction", "equity over the starting cash, less 1"),
    "account_time_left": ("fraction", "share of the episode that is left"),
}
