"""Runs jobs `true` on HyperQueue's own local cluster with one worker of 8 cores, outputs to files.

Arguments: a directory for the cluster, how many jobs a turn has. Each line on standard input is a turn:
it names the directory of the outputs. The answer is a line with the seconds from submission to the
last result; describing the jobs is not part of them.
"""

import logging
import sys
import time

from hyperqueue.cluster import LocalCluster, WorkerConfig
from hyperqueue.job import Job

logging.disable(logging.CRITICAL)
server, jobs = sys.argv[1], int(sys.argv[2])
with LocalCluster(server, WorkerConfig(cores=8)) as cluster:
    client = cluster.client()
    for line in sys.stdin:
        job = Job(default_workdir=line.rstrip("\n"), max_fails=0)
        for _ in range(jobs):
            job.program(["true"])
        start = time.perf_counter()
        ended_well = client.wait_for_jobs([client.submit(job)])
        took = time.perf_counter() - start
        if not ended_well:
            sys.exit("a job has failed")
        print("took", took, flush=True)
