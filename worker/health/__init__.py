"""Whether tasks are well: when to probe and what the results mean (sans-IO), and the probes themselves.

Owns nothing; reads a task's spec and host ports, tells the task runner verdicts.
"""
