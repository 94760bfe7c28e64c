"""HTTP doors. Each takes, calls one flow, answers; what is decided is decided behind them."""
