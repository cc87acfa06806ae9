"""What recorded columns mean: tables of units and words, one row per entry of the engine's own tables."""

from __future__ import annotations

# Unit, kind and meaning of the rows of `torchgym.market.paths.ENTRIES` that describe the market.
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

# Unit of each row of `torchgym.rewards.REWARDS`, and its meaning.
REWARDS: dict[str, tuple[str, str]] = {
    "pnl": ("currency", "change of equity"),
    "log_return": ("fraction", "log return of equity"),
    "risk_adjusted": ("currency", "change of equity less prices for new drawdown and for turnover"),
    "differential_sharpe": ("ratio", "what the return adds to a running Sharpe ratio"),
    "inventory": ("ratio", "minus the squares of the shares held over the position limit"),
}

# Meaning of each feature, those of one formula under their common name; units and forms are the features' own table's.
FEATURES: dict[str, str] = {
    "f_mid_price": "halfway between the best bid and ask: the mid",
    "f_price_change": "change of the mid",
    "f_log_return": "log return of the mid",
    "f_sma_8": "mean of the last 8 mids",
    "f_sma_16": "mean of the last 16 mids",
    "f_ema_8": "exponential mean of the mid, the newest weighing 2/9",
    "f_ema_16": "exponential mean of the mid, the newest weighing 2/17",
    "f_rsi_8": "Wilder's relative strength index of the mid over 8 ticks",
    "f_macd_line": "f_ema_8 less f_ema_16",
    "f_macd_signal": "exponential mean of f_macd_line, the newest weighing 2/5",
    "f_macd_histogram": "f_macd_line less f_macd_signal",
    "f_bb_upper": "upper Bollinger band: two standard deviations above the mean of the last 12 mids",
    "f_bb_middle": "mean of the last 12 mids",
    "f_bb_lower": "lower Bollinger band: two standard deviations below the mean of the last 12 mids",
    "f_bb_percent_b": "where the mid lies between the lower band (0) and the upper (1)",
    "f_atr_8": "Wilder's average over 8 ticks of the range that mid and traded price went through",
    "f_has_active_news": "whether an event that touches the symbol is under way",
    "f_news_sentiment": "sentiment of the newest event under way, times the share of its duration that is left",
    "f_news_magnitude": "magnitude of the newest event under way",
    "f_news_ticks_remaining": "how long the newest event still lasts",
    "f_spread_bps": "best ask less best bid, over the mid",
    "f_book_imbalance": "shares bid less shares offered near the best quotes, over their sum",
    "f_net_order_flow": "shares bought less shares sold by orders that came in over 8 ticks, over their sum",
    "f_realized_vol_8": "standard deviation of the last 8 one-tick log returns",
    "f_realized_vol_32": "standard deviation of the last 32 one-tick log returns",
    "f_vol_ratio": "f_realized_vol_8 over f_realized_vol_32",
    "f_fair_value_dev": "how far the mid is above the value that the learner is shown",
    "f_price_to_fair": "the mid over the value that the learner is shown",
    "f_trend_strength": "size of f_macd_line, over f_atr_8",
    "f_rsi_divergence": "f_rsi_8 less 50",
    "f_volume_surge": "volume of the tick over the mean of the 8 before it",
    "f_trade_intensity": "orders filled in the tick, over 8",
    "f_sentiment_price_gap": "what is left of the sentiment of all events under way, times f_fair_value_dev",
}
