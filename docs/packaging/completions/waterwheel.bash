# Completions of waterwheel for bash.

_waterwheel() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=serve words=
    case ${COMP_WORDS[1]} in
        echo | doctor) command=${COMP_WORDS[1]} ;;
        bench) command="bench ${COMP_WORDS[2]}" ;;
    esac
    if [ "$COMP_CWORD" = 1 ]; then words="serve echo bench doctor "; fi
    if [ "$COMP_CWORD" = 2 ] && [ "$before" = bench ]; then
        words="echo idle churn fan-out sse --help"
    else
        case $command in
            "serve") words+="--options-file --listen --tls-certificate --tls-key --tls-client-ca --redirect --redirect-port --publish-token --publish-token-file --token-secret --token-secret-file --pusher-app --pusher-app-file --cable --cable-secret --cable-turbo-key --cable-streams-key --cable-broadcast-key --cable-secret-file --cable-turbo-key-file --cable-streams-key-file --cable-broadcast-key-file --cable-hook --cable-hook-secret --cable-hook-secret-file --cable-open --mercure-publisher-key --mercure-publisher-key-file --mercure-subscriber-key --mercure-subscriber-key-file --mercure-anonymous --mercure-subscriptions --open --drain-window --takeover --allow-origin --max-connections --memory-max --max-connections-per-address --handshakes-per-second --handshakes-per-second-total --messages-per-second --max-fragments --deflate --max-subscriptions --max-connection-age --topic --history-bytes --redis --redis-prefix --trusted-proxy --proxy-protocol --reactors --unix-mode --log --log-format --access-log --help --version" ;;
            "echo") words+="--listen --tls-certificate --tls-key --tls-client-ca --to --max-connections --deflate --log --log-format --help --version" ;;
            "doctor") words+="--connections --help" ;;
            "bench echo") words+="--connections --size --pipeline --rate --binary --payload --verify --url --pid --seconds --warmup --deflate --connect-rate --json --plot --log --help" ;;
            "bench idle") words+="--connections --hold --send --expect --url --pid --deflate --connect-rate --json --plot --log --help" ;;
            "bench churn") words+="--connections --size --until --resume --url --pid --seconds --warmup --deflate --connect-rate --json --plot --log --help" ;;
            "bench fan-out") words+="--subscribers --publishers --size --in-flight --rate --protocol --publish-by --redis --topic --token --url --pid --seconds --warmup --deflate --connect-rate --json --plot --log --help" ;;
            "bench sse") words+="--subscribers --publishers --size --in-flight --rate --protocol --publish-by --redis --topic --token --url --pid --seconds --warmup --deflate --connect-rate --json --plot --log --help" ;;
        esac
    fi
    case $command$before in
        "serve--options-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--listen") words="" ;;
        "serve--tls-certificate") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--tls-key") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--tls-client-ca") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--redirect") words="" ;;
        "serve--redirect-port") words="" ;;
        "serve--publish-token") words="" ;;
        "serve--publish-token-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--token-secret") words="" ;;
        "serve--token-secret-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--pusher-app") words="" ;;
        "serve--pusher-app-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--cable-secret") words="" ;;
        "serve--cable-turbo-key") words="" ;;
        "serve--cable-streams-key") words="" ;;
        "serve--cable-broadcast-key") words="" ;;
        "serve--cable-secret-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--cable-turbo-key-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--cable-streams-key-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--cable-broadcast-key-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--cable-hook") words="" ;;
        "serve--cable-hook-secret") words="" ;;
        "serve--cable-hook-secret-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--mercure-publisher-key") words="" ;;
        "serve--mercure-publisher-key-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--mercure-subscriber-key") words="" ;;
        "serve--mercure-subscriber-key-file") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "serve--drain-window") words="" ;;
        "serve--takeover") words="" ;;
        "serve--allow-origin") words="" ;;
        "serve--max-connections") words="" ;;
        "serve--memory-max") words="" ;;
        "serve--max-connections-per-address") words="" ;;
        "serve--handshakes-per-second") words="" ;;
        "serve--handshakes-per-second-total") words="" ;;
        "serve--messages-per-second") words="" ;;
        "serve--max-fragments") words="" ;;
        "serve--deflate") words="none shared dedicated" ;;
        "serve--max-subscriptions") words="" ;;
        "serve--max-connection-age") words="" ;;
        "serve--topic") words="" ;;
        "serve--history-bytes") words="" ;;
        "serve--redis") words="" ;;
        "serve--redis-prefix") words="" ;;
        "serve--trusted-proxy") words="" ;;
        "serve--reactors") words="" ;;
        "serve--unix-mode") words="" ;;
        "serve--log") words="off error warn info debug trace" ;;
        "serve--log-format") words="text json" ;;
        "echo--listen") words="" ;;
        "echo--tls-certificate") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "echo--tls-key") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "echo--tls-client-ca") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "echo--to") words="sender all" ;;
        "echo--max-connections") words="" ;;
        "echo--deflate") words="none shared dedicated" ;;
        "echo--log") words="off error warn info debug trace" ;;
        "echo--log-format") words="text json" ;;
        "doctor--connections") words="" ;;
        "bench echo--connections") words="" ;;
        "bench echo--size") words="" ;;
        "bench echo--pipeline") words="" ;;
        "bench echo--rate") words="" ;;
        "bench echo--payload") words="letters json" ;;
        "bench echo--url") words="" ;;
        "bench echo--pid") words="" ;;
        "bench echo--seconds") words="" ;;
        "bench echo--warmup") words="" ;;
        "bench echo--deflate") words="none shared dedicated" ;;
        "bench echo--connect-rate") words="" ;;
        "bench echo--plot") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "bench echo--log") words="off error warn info debug trace" ;;
        "bench idle--connections") words="" ;;
        "bench idle--hold") words="" ;;
        "bench idle--send") words="" ;;
        "bench idle--expect") words="echo nothing" ;;
        "bench idle--url") words="" ;;
        "bench idle--pid") words="" ;;
        "bench idle--deflate") words="none shared dedicated" ;;
        "bench idle--connect-rate") words="" ;;
        "bench idle--plot") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "bench idle--log") words="off error warn info debug trace" ;;
        "bench churn--connections") words="" ;;
        "bench churn--size") words="" ;;
        "bench churn--until") words="handshake echo" ;;
        "bench churn--url") words="" ;;
        "bench churn--pid") words="" ;;
        "bench churn--seconds") words="" ;;
        "bench churn--warmup") words="" ;;
        "bench churn--deflate") words="none shared dedicated" ;;
        "bench churn--connect-rate") words="" ;;
        "bench churn--plot") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "bench churn--log") words="off error warn info debug trace" ;;
        "bench fan-out--subscribers") words="" ;;
        "bench fan-out--publishers") words="" ;;
        "bench fan-out--size") words="" ;;
        "bench fan-out--in-flight") words="" ;;
        "bench fan-out--rate") words="max" ;;
        "bench fan-out--protocol") words="plain waterwheel actioncable anycable" ;;
        "bench fan-out--publish-by") words="post json redis" ;;
        "bench fan-out--redis") words="" ;;
        "bench fan-out--topic") words="" ;;
        "bench fan-out--token") words="" ;;
        "bench fan-out--url") words="" ;;
        "bench fan-out--pid") words="" ;;
        "bench fan-out--seconds") words="" ;;
        "bench fan-out--warmup") words="" ;;
        "bench fan-out--deflate") words="none shared dedicated" ;;
        "bench fan-out--connect-rate") words="" ;;
        "bench fan-out--plot") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "bench fan-out--log") words="off error warn info debug trace" ;;
        "bench sse--subscribers") words="" ;;
        "bench sse--publishers") words="" ;;
        "bench sse--size") words="" ;;
        "bench sse--in-flight") words="" ;;
        "bench sse--rate") words="max" ;;
        "bench sse--protocol") words="plain waterwheel actioncable anycable" ;;
        "bench sse--publish-by") words="post json redis" ;;
        "bench sse--redis") words="" ;;
        "bench sse--topic") words="" ;;
        "bench sse--token") words="" ;;
        "bench sse--url") words="" ;;
        "bench sse--pid") words="" ;;
        "bench sse--seconds") words="" ;;
        "bench sse--warmup") words="" ;;
        "bench sse--deflate") words="none shared dedicated" ;;
        "bench sse--connect-rate") words="" ;;
        "bench sse--plot") COMPREPLY=($(compgen -f -- "$word")); return ;;
        "bench sse--log") words="off error warn info debug trace" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _waterwheel waterwheel
