"""The backend ``local``: jobs and endpoints as processes of this machine.

No Docker, no AWS account, no role. Records and files live below ``MODELYARD_HOME``; each job and
endpoint runs under a guard, a small process that outlives its client only when it is meant to.
"""
