# Starts one rank of a job: `sh rank.sh PROGRAM ARGUMENT...`, as mpirun's or torchrun's own process.
#
# torch wants to know the rank by names that mpirun does not use: they are set where nothing has set
# them, from what Open MPI, MPICH and its relatives, or PMIx say.
rank=${RANK:-${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-}}}}
world_size=${WORLD_SIZE:-${OMPI_COMM_WORLD_SIZE:-${PMI_SIZE:-}}}
local_rank=${LOCAL_RANK:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-}}}
local_world_size=${LOCAL_WORLD_SIZE:-${OMPI_COMM_WORLD_LOCAL_SIZE:-${MPI_LOCALNRANKS:-}}}

[ -z "$rank" ] || export RANK="$rank"
[ -z "$world_size" ] || export WORLD_SIZE="$world_size"
[ -z "$local_rank" ] || export LOCAL_RANK="$local_rank"
[ -z "$local_world_size" ] || export LOCAL_WORLD_SIZE="$local_world_size"

# Where the job's supervisor reads pipes of this rank, its output goes there, and first who it is.
# A pipe is opened for both directions and then for writing alone: the first never waits for a reader,
# nor does the second while the first is open; and a rank that nobody reads any more is told by SIGPIPE.
pipe=${MODELYARD_STREAMS:-}/${local_rank:-0}
if [ -n "${MODELYARD_STREAMS:-}" ] && [ -p "$pipe.out" ] && [ -p "$pipe.err" ]; then
    exec 1<>"$pipe.out" 1>"$pipe.out" 2<>"$pipe.err" 2>"$pipe.err"
    printf '\001rank %s\n' "${rank:-0}"
    printf '\001rank %s\n' "${rank:-0}" >&2
fi

exec "$@"
