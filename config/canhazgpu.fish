# Hides the GPUs of this host from CUDA programs in a login shell until something is reserved, and defines chg-use.
# `canhazgpu install profile` writes this file to /etc/fish/conf.d.
#
#   chg-use                uses the GPUs that you hold; if you hold none, reserves one
#   chg-use --gpus 2 ...   reserves GPUs, with the options of `canhazgpu reserve`, and uses them

if status is-login; and not set -q CUDA_VISIBLE_DEVICES
    set -gx CUDA_VISIBLE_DEVICES ''
end

function chg-use --description 'Reserve GPUs, or take those that you hold, for this shell'
    set -l code
    if test (count $argv) -eq 0; and canhazgpu env --shell fish >/dev/null 2>&1
        set code (canhazgpu env --shell fish); or return
    else
        set code (canhazgpu reserve --shell fish $argv); or return
    end
    eval $code
end
