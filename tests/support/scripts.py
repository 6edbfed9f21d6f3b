"""Five scripts that people ran on `canhazgpu status`, as they wrote them. None of this is ours to change."""

REMINDER = r"""#!/bin/bash
# unauthorized_reminder.sh
STATUS=$(canhazgpu status)
UNAUTHORIZED=$(echo "$STATUS" | grep "WITHOUT RESERVATION")

if [ -n "$UNAUTHORIZED" ]; then
    echo "Reminder: Please use canhazgpu for GPU reservations"
    echo "$UNAUTHORIZED"
fi
"""
NOTIFICATION = r"""#!/bin/bash
# unauthorized_notify.sh
STATUS=$(canhazgpu status)
UNAUTHORIZED=$(echo "$STATUS" | grep "WITHOUT RESERVATION")

if [ -n "$UNAUTHORIZED" ]; then
    # Extract usernames and send notifications
    USERS=$(echo "$UNAUTHORIZED" | sed -n 's/.*by users\? \([^-]*\) -.*/\1/p')
    for USER in $USERS; do
        echo "Please use canhazgpu for GPU reservations" | wall -n "$USER"
    done
fi
"""
RESPONSE = r"""#!/bin/bash
# unauthorized_response.sh

# Check for unauthorized usage
UNAUTHORIZED=$(canhazgpu status | grep "WITHOUT RESERVATION")

if [ -n "$UNAUTHORIZED" ]; then
    # Log the violation
    echo "$(date): $UNAUTHORIZED" >> /var/log/gpu_violations.log
    
    # Extract and notify users
    echo "$UNAUTHORIZED" | while read -r line; do
        USERS=$(echo "$line" | sed -n 's/.*by users\? \([^-]*\) -.*/\1/p')
        for USER in $USERS; do
            # Send notification to user
            echo "GPU Policy Violation: Please use 'canhazgpu reserve' for GPU access" | \
                mail -s "GPU Usage Policy" "$USER@company.com"
        done
    done
    
    # Alert administrators
    echo "$UNAUTHORIZED" | mail -s "GPU Policy Violations Detected" admin@company.com
fi
"""  # noqa: W293 - to the letter
MONITORING = r'''def check_unauthorized_usage():
    """Check for unauthorized GPU usage and return details"""
    result = subprocess.run(['canhazgpu', 'status'], 
                          capture_output=True, text=True)
    
    unauthorized = []
    for line in result.stdout.split('\n'):
        if 'WITHOUT RESERVATION' in line:
            # Parse user and memory info
            match = re.search(r'by users? ([^-]+) - (\d+)MB', line)
            if match:
                users = match.group(1).strip()
                memory = int(match.group(2))
                unauthorized.append({
                    'users': users,
                    'memory_mb': memory,
                    'raw_line': line
                })
    
    return unauthorized

# Usage in monitoring
violations = check_unauthorized_usage()
if violations:
    for v in violations:
        logger.warning(f"Unauthorized GPU usage: {v['users']} using {v['memory_mb']}MB")
'''  # noqa: W291, W293 - to the letter
MIXED = """\
GPU 0: IN USE by bob for 1h 30m 0s (run, last heartbeat 0h 0m 5s ago) [validated: 8452MB, 1 processes]
GPU 1: IN USE WITHOUT RESERVATION by user alice - 1024MB used by PID 22222 (jupyter)
GPU 2: AVAILABLE (last released 2h 0m 0s ago) [validated: 45MB used]
GPU 3: IN USE by charlie for 0h 45m 0s (manual, expires in 7h 15m 0s) [validated: no actual usage detected]
"""
