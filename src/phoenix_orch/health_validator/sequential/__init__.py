"""Evidence that may be looked at after every interval: e-processes and intervals made of them. Pure.

An e-process E is at least 0, begins at 1, and at any stopping time its expectation is at most 1 while
the null hypothesis holds. So the probability that it ever reaches 1/alpha is at most alpha (Ville), no
matter how often somebody looks. Weighted means of e-processes are e-processes, whatever depends on what.

`mixture` does not know when a fault begins and tries all times; `absolute` compares one variant with a
limit; `relative` compares two variants without knowing their base rate; `interval` shows what is known
of a share; `dispersion` measures how far requests are from independent. Nothing here imports more than
`math`.
"""
