"""The delivery lane in a world that is simulated whole: time, brokers, partners, and all their faults.

One seed is one schedule, and the same seed is the same run. `python -m tests.simulation` runs many.
"""
