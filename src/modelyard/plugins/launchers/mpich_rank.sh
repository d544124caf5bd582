# Starts one rank below MPICH's mpirun: `sh mpich_rank.sh PYTHON PROGRAM ARGUMENT...`
#
# MPICH's mpirun waits for the other ranks when one exits with a status other than 0, and never says
# which rank it was. So the rank has a parent that says so, and has mpirun end the others.
python=$1
shift

rank= told= sent=
# As TERM, because what a shell starts in the background ignores INT.
trap 'told=1; [ -z "$rank" ] || { sent=1; kill -TERM "$rank" 2>/dev/null; }' TERM INT
"$@" <&0 &
rank=$!
# One that came before there was a rank; one that came just now is sent already.
[ -z "$told" ] || [ -n "$sent" ] || kill -TERM "$rank" 2>/dev/null
wait "$rank"
status=$?
# A signal ends the wait and not the rank, or comes when there is nothing more to wait for (127).
while [ -n "$told" ]; do
    told=
    wait "$rank"
    again=$?
    [ "$again" -eq 127 ] || status=$again
done
[ "$status" -eq 0 ] && exit 0
echo "modelyard: rank ${PMI_RANK:-0} ended with status $status" >&2
exec "$python" -P -m modelyard.plugins.launchers.mpi_hosts abort "$status"
