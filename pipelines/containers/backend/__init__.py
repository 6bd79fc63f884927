"""What Kubeflow Pipelines 2.17.0 does between a compiled pipeline and a step's process, as our own code.

Every rule names its source in kubeflow/pipelines at tag 2.17.0, below backend/src/v2 where no other folder is
given. `docs/decisions/0020` says what is imitated, what is stricter, and what is refused.
"""
