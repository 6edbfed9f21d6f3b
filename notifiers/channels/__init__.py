"""One module per channel, each with its own helpers.

In comes a notice with its recipients; out go `Outcome`s that say who was reached and what may be tried
again. A channel never words a notice itself and never retries: the delivery worker does. Start with `wall`
or `mail`.
"""
