"""How a task is made real: plain processes (through the task host), and simulated ones for scale.

Owns `tasks/<id>/` below the state directory (work directory, FIFOs, logs), the host ports and the tasks' cgroups.
Knows nothing of task states: `worker.task` decides, an executor does.
"""
