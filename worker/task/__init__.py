"""The life of each task on this node: decided in `state` (a table), done in `operations`, kept in `journal`.

Owns `worker/tasks/` below the state directory, one record a task. Told by the session what is wanted and by an executor
what happens; tells the session statuses (`worker.reports`).
"""
