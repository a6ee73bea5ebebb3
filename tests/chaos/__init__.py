"""Faults that are really injected; the matrix says which test shows which.

Each asserts: the right answer to the client, the ledger back to truth, nothing left over (the
fixture `alone`, and what the tests look at of the server's own), and the next request served.
"""

from __future__ import annotations

_S3 = "chaos/test_s3.py::test_a_fault_of_s3_is_a_typed_error_and_passes_by_itself"
_ENDED = (
    "chaos/test_server.py::"
    "test_ended_under_load_it_leaves_no_worker_and_no_wrong_answer_and_starts_again"
)
_RUDE = (
    "chaos/test_clients.py::test_a_client_that_misbehaves_is_dealt_with_and_costs_nobody_anything"
)
_HOSTILE = "rooms/test_front_hostile.py::test_"
_DISK = "rooms/test_artifacts.py::test_"
_WORKERS = "chaos/test_workers.py::test_"
_WRITES = "chaos/test_workers_disk.py::test_"
_FILLS = _WRITES + "a_model_that_fills_the_disk_ends_its_worker_and_is_quarantined"
_ENDS = _WORKERS + "a_model_that_ends_its_worker_costs_its_own_request_only"
_NOBODY = _WORKERS + "a_worker_killed_while_nobody_asks_costs_nobody_an_answer"

MATRIX = {
    "worker killed while idle": _NOBODY,
    "worker killed while unloading": _NOBODY,
    "worker killed while loading": (
        _WORKERS + "a_model_that_ends_workers_while_it_loads_is_remembered_with_the_cause"
    ),
    "models end their worker while they load, a neighbour is busy": (
        _WORKERS
        + "models_that_end_their_worker_while_they_load_cost_a_busy_neighbour_no_quarantine"
    ),
    "worker killed while predicting": _ENDS,
    "worker killed while requests wait": (
        "rooms/test_engine.py::"
        "test_a_killed_worker_loses_what_ran_and_everything_else_is_reloaded_when_asked_for"
    ),
    "worker killed between load and first use": (
        "rooms/test_engine.py::"
        "test_a_worker_that_dies_between_load_and_first_use_costs_a_second_load_only"
    ),
    "worker killed while models come back to it": (
        "chaos/test_recalls.py::"
        "test_a_worker_killed_while_models_are_recalled_costs_what_ran_in_it_only"
    ),
    "worker says nothing": (
        _WORKERS + "a_worker_that_says_nothing_is_replaced_and_costs_what_ran_in_it_only"
    ),
    "model hangs": _ENDS,
    "model hangs at loading": (
        _WORKERS
        + "a_model_that_hangs_while_it_loads_is_given_up_and_its_neighbour_goes_on_answering"
    ),
    "model spins": _ENDS,
    "model leaks, memory limited": (
        _WORKERS + "a_model_that_takes_all_memory_it_may_is_refused_more_and_its_worker_lives"
    ),
    "model keeps all the memory that it may, worker after worker": (
        _WORKERS + "a_model_that_ends_three_workers_is_quarantined_with_the_cause"
    ),
    "model keeps a little more with each request": (
        _WORKERS + "a_model_that_hoards_slowly_has_its_worker_replaced_and_costs_no_request"
    ),
    "model opens files until there are none left": (
        _WORKERS + "a_model_that_uses_up_all_descriptors_costs_no_other_model_a_failure"
    ),
    "model writes on and on": _FILLS,
    "model writes on and on to files that it has deleted": _FILLS,
    "model makes more and more files, or directories in each other": _FILLS,
    "model fills shared memory": _FILLS,
    "model fills the disk while it loads": (
        _WRITES + "a_model_that_fills_the_disk_while_it_loads_is_remembered_with_the_cause"
    ),
    "model writes a little with each request": (
        _WRITES + "who_writes_a_little_each_time_is_to_blame_and_not_who_is_asked_by_then"
    ),
    "model writes one huge file": (
        _WRITES + "a_file_larger_than_all_that_it_may_have_is_an_error_to_who_writes_it"
    ),
    "build of requirements writes on and on": (
        "chaos/test_build_isolation.py::"
        "test_a_build_that_writes_on_and_on_is_ended_and_leaves_nothing"
    ),
    "model is killed": _ENDS,
    "worker out of memory, by a control group": (
        _WORKERS + "a_worker_that_the_kernel_ends_for_memory_costs_what_ran_in_it_only"
    ),
    "isolation is strict, and the kernel lacks something": (
        "chaos/test_strict.py::"
        "test_strict_refuses_to_start_where_the_kernel_lacks_something_and_says_what"
    ),
    "isolation is auto, and the kernel lacks something": (
        "chaos/test_strict.py::test_auto_starts_without_it_and_tells_what_is_lacking"
    ),
    "model forks": _ENDS,
    "model leaves processes whose parent has gone": (
        "server/test_orphans.py::"
        "test_what_a_model_leaves_is_waited_for_while_its_worker_lives_and_when_it_ends"
    ),
    "container ends and leaves processes": (
        "server/test_orphans.py::"
        "test_of_a_container_that_is_killed_nothing_is_left_once_it_is_started_again"
    ),
    "model is a fork bomb": _WORKERS + "a_fork_bomb_goes_with_its_worker",
    "model forks without end, its worker has a user of its own": (
        "chaos/test_process_limit.py::"
        "test_a_fork_bomb_with_a_user_of_its_own_ends_at_its_limit_and_others_go_on"
    ),
    "model closes its pipe": _ENDS,
    "model writes rubbish to its pipe": _ENDS,
    "model calls os._exit": _ENDS,
    "model segfaults": _ENDS,
    "model ends worker after worker": (
        _WORKERS + "a_model_that_ends_three_workers_is_quarantined_with_the_cause"
    ),
    "server killed, workers' directories": (
        _WORKERS + "what_a_killed_server_left_of_its_workers_is_removed_by_the_next"
    ),
    "front process killed": (
        "rooms/test_remote.py::"
        "test_a_front_that_is_killed_loses_its_own_connections_alone_and_comes_back"
    ),
    "front process says nothing": (
        "rooms/test_remote.py::test_a_front_that_gives_no_sign_of_life_is_replaced"
    ),
    "all front processes killed": (
        "rooms/test_remote.py::test_there_is_no_readiness_without_any_front_and_then_there_is_again"
    ),
    "server killed, front processes": (
        "server/test_fronts.py::test_signed_requests_over_tls_and_the_console_go_through_both"
        "_and_end_with_the_server"
    ),
    "model reads, writes, connects where it may not": (
        "chaos/test_workers_isolation.py::test_a_models_code_reaches_its_own_files_and_nobody_elses"
    ),
    "S3 breaks off in mid-body, and then does not": (
        "chaos/test_s3.py::test_a_body_that_breaks_off_twice_is_noticed_by_no_client"
    ),
    "S3 breaks off each body": (
        "chaos/test_s3.py::"
        "test_a_store_whose_bodies_all_break_off_is_asked_thrice_and_boto3_is_told"
    ),
    "S3 bytes damaged on the way": (
        "chaos/test_s3.py::test_bytes_that_are_not_what_their_etag_names_are_fetched_again"
    ),
    "load ends between two fetches": (
        "chaos/test_s3.py::"
        "test_a_load_that_waits_to_fetch_again_ends_at_its_deadline_and_with_the_engine"
    ),
    "S3 slow": "chaos/test_s3.py::test_a_slow_s3_delays_only_the_one_who_waits_for_it",
    "S3 hanging": _S3,
    "S3 500": _S3,
    "S3 503 SlowDown": _S3,
    "S3 403 from one moment to the next": _S3,
    "S3 resets in mid-body": _S3,
    "S3 body too short": _S3,
    "S3 body that is not what its ETag names": _S3,
    "S3 object overwritten in mid-read": (
        "chaos/test_s3.py::test_an_overwrite_in_the_middle_of_a_read_gives_no_mixture"
    ),
    "S3 name does not resolve": (
        "chaos/test_s3.py::"
        "test_a_name_that_does_not_resolve_is_the_stores_fault_and_residents_answer"
    ),
    "S3 down": "server/test_s3_serving.py::test_s3_down_later_leaves_residents_answering",
    "disk full": "chaos/test_full_disk.py::test_a_full_disk_is_survived_and_recovers_by_itself",
    "disk out of inodes": (
        "chaos/test_full_disk.py::test_a_disk_without_inodes_for_all_models_takes_each_in_turn"
    ),
    "disk read-only": "chaos/test_server.py::test_a_disk_that_turns_read_only_is_told_and_passes",
    "cache directory deleted": (
        _DISK + "a_cache_dir_deleted_under_the_server_is_made_and_locked_anew"
    ),
    "cache directory deleted, workers' directories with it": (
        "chaos/test_server.py::"
        "test_a_cache_directory_deleted_under_the_server_costs_no_answer_but_the_fetch"
    ),
    "two servers, one cache directory": (
        "chaos/test_server.py::"
        "test_a_second_server_on_one_cache_directory_is_refused_and_the_first_goes_on"
    ),
    "clock jumps": (
        "chaos/test_clock_jumps.py::"
        "test_a_clock_that_jumps_keeps_warm_models_and_says_why_the_rest_fails"
    ),
    "machine paused, container frozen": (
        "chaos/test_paused.py::"
        "test_a_pause_longer_than_a_worker_may_be_silent_costs_no_worker_and_no_model"
    ),
    "no thread and no process to be had": (
        "chaos/test_no_more_threads.py::"
        "test_without_threads_and_processes_to_be_had_it_loads_and_comes_back"
    ),
    "no descriptor left": (
        "chaos/test_server.py::test_without_descriptors_it_neither_dies_nor_spins_and_recovers"
    ),
    "SIGTERM under load": (
        "server/test_s3_serving.py::test_sigterm_under_load_loses_no_request_that_had_arrived"
    ),
    "SIGTERM under load, restart": _ENDED,
    "SIGINT under load, restart": _ENDED,
    "SIGHUP under load, restart": _ENDED,
    "SIGKILL under load, restart": _ENDED,
    "client says nothing": _RUDE,
    "client sends a byte at a time": _RUDE,
    "client sends too much": _RUDE,
    "client reads nothing": _RUDE,
    "clients do not take large answers": (
        "chaos/test_large_answers.py::test_clients_that_take_nothing_fill_no_more_than_the_limit"
    ),
    "worker sends the server a gigabyte": (
        "chaos/test_large_answers.py::"
        "test_a_worker_that_sends_more_than_any_answer_is_ended_before_it_is_here"
    ),
    "client leaves in mid-request": _RUDE,
    "client leaves in mid-load": _RUDE,
    "client sends garbage": _RUDE,
    "client leaves without its answer": _RUDE,
    "client pipelines": _RUDE,
    "client pipelines beyond what is taken ahead": (
        _HOSTILE + "more_requests_than_are_taken_ahead_are_all_answered_in_order"
    ),
    "client asks without waiting for answers": (
        _HOSTILE + "who_asks_without_waiting_for_answers_holds_up_nobody_else"
    ),
    "everything at once": "server/test_soak.py::test_a_short_soak_survives_everything_at_once",
    "client reuses a connection after an error": (
        "chaos/test_server.py::test_a_connection_goes_on_after_each_kind_of_error"
    ),
}
