# Hides the GPUs of this host from CUDA programs in a login shell until something is reserved, and defines chg-use.
# `canhazgpu install profile` writes this file to /etc/profile.d; any POSIX shell, bash and zsh can read it.
#
#   chg-use                uses the GPUs that you hold; if you hold none, reserves one
#   chg-use --gpus 2 ...   reserves GPUs, with the options of `canhazgpu reserve`, and uses them

if [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then
    export CUDA_VISIBLE_DEVICES=
fi

chg_use() {
    if [ $# -eq 0 ] && canhazgpu env --shell bash >/dev/null 2>&1; then
        _chg_code=$(canhazgpu env --shell bash) || return
    else
        _chg_code=$(canhazgpu reserve --shell bash "$@") || return
    fi
    eval "$_chg_code"
    unset _chg_code
}

# Not every shell allows a dash in the name of a function.
if [ -n "${BASH_VERSION-}${ZSH_VERSION-}" ] && (eval 'chg-use() { :; }') 2>/dev/null; then
    eval 'chg-use() { chg_use "$@"; }'
else
    alias chg-use=chg_use 2>/dev/null || :
fi
