# What this runner is, in the log of its job ("Set up runner"). No job fails of it: what is not to be had is left out.
set +e
{
  version=$(timeout 5 "$HOME/bin/Runner.Listener" --version)
  curl --silent --fail --max-time 2 "$ECS_CONTAINER_METADATA_URI_V4/task" |
    jq --raw-output --arg version "${version:-unknown}" --arg machine "$(uname -m)" --arg capacity "$RUNNER_CAPACITY" '
      (.Containers | map(select(.LogOptions["awslogs-stream"])) | first) as $runner
      | ($runner.LogOptions // {}) as $log
      | def part($name): $log[$name] // "" | gsub("/"; "$252F");
        (if $machine == "aarch64" then [0.03238, 0.00356] else [0.04048, 0.004445] end) as $price
      | ((.Limits.CPU * $price[0] + .Limits.Memory / 1024 * $price[1]) / 60 * 1e6 | round / 1e6) as $cost
      | "Size: \(.Limits.CPU) vCPU, \(.Limits.Memory / 1024) GiB, \($machine)",
        ($capacity | select(. != "") | "Capacity: \(.)"),
        "Image: \($runner.Image), runner \($version)",
        "Task: \(.TaskARN)",
        "Log: https://\($log["awslogs-region"]).console.aws.amazon.com/cloudwatch/home#logsV2:log-groups/log-group/\(part("awslogs-group"))/log-events/\(part("awslogs-stream"))",
        (if $capacity == "FARGATE_SPOT" then "Cost: that of Spot, which changes"
         elif ["", "FARGATE"] | index($capacity) then "Cost: about \($cost) USD a minute on demand, at the price of us-east-1"
         else empty end)'
} 2> /dev/null
exit 0
