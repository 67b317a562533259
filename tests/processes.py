"""Processes of one group on this machine's CPU, for tests of what several of them do together."""

import multiprocessing
import os
import traceback

import torch
import torch.distributed as dist

PATIENCE = 240  # seconds that a busy machine may take to start a process


class Processes:
    """Real processes, joined by gloo; calling this runs a function in each and returns what each gives or raises."""

    def __init__(self, number, folder):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["ssdedu.workshop"])  # torch is read once for all of them
        pipes = [context.Pipe() for _ in range(number)]
        self.pipes = [here for here, _ in pipes]
        self.processes = [
            context.Process(target=_serve, args=(rank, number, str(folder / "store"), there), daemon=True)
            for rank, (_, there) in enumerate(pipes)
        ]
        for process, (_, there) in zip(self.processes, pipes, strict=True):
            process.start()
            there.close()

    def start(self, function, *arguments):
        for pipe in self.pipes:
            pipe.send((function, arguments))

    def result(self, rank):
        if not self.pipes[rank].poll(PATIENCE):
            raise TimeoutError(f"process {rank} does not answer")
        return self.pipes[rank].recv()

    def __call__(self, function, *arguments):
        self.start(function, *arguments)
        results = [self.result(rank) for rank in range(len(self.pipes))]
        strange = [r for r in results if isinstance(r, Strange)]
        assert not strange, strange[0].text
        return results

    def close(self):
        for process in self.processes:
            process.kill()
            process.join()


class Strange:
    """An exception that no test expects, as text."""

    def __init__(self, text):
        self.text = text


def _serve(rank, number, store, pipe):
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(number))
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=number)
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send(function(*arguments))
        except (ValueError, RuntimeError) as error:
            pipe.send(error)
        except BaseException:
            pipe.send(Strange(traceback.format_exc()))
