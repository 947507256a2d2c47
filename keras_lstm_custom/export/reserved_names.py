"""Names that C and C++ code cannot give to a struct, a namespace or a file of its own."""

from __future__ import annotations

import os
import re
import unicodedata

from keras_lstm_custom.errors import ArgumentError, ExportError
from keras_lstm_custom.writing import target_of

#: The words of C++ up to C++23, and of C up to C23 and GNU's.
_KEYWORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class co_await
co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype default delete do
double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires return
short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef
typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq restrict typeof typeof_unqual
"""

#: Headers of C, and those that they read or that stand beside them: a NAME.h among a program's headers would be read in
#: their place.
_HEADERS = """
alloca assert complex ctype endian errno fcntl features fenv float inttypes iso646 limits locale malloc math memory
newlib poll pthread reent sched setjmp signal stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio
stdlib stdnoreturn string strings tgmath threads time uchar unistd wchar wctype
"""

#: Names at global level that are taken: those with which g++ 12 refuses `namespace NAME {}` after the headers of C and
#: C++ over glibc, and those of our `main.cc` and of the runtime's library. With each go its variants by `VARIANTS`.
_TAKEN = """
L_ctermid L_cuserid L_tmpnam P_tmpdir a64l abort abs access acct acos acosh alarm aligned_alloc alloca arc4random
arc4random_buf arc4random_uniform arena asctime asin asinh asprintf at_quick_exit atan atan2 atanh atexit atof atoi
atol basename bcmp bcopy brk bsearch btowc bzero c16rtomb c32rtomb c8rtomb cabs cacos cacosh calloc canonicalize
canonicalize_file_name carg casin casinh catan catanh cbrt ccos ccosh ceil cexp chdir chown chroot cimag clearenv
clearerr clock clog clog10 clone close close_range closefrom confstr conj copy_file_range copysign cos cosh cpow cproj
creal crypt csin csinh csqrt ctan ctanh ctermid ctime cuserid daddl daemon daylight ddivl dfmal difftime div dmull
dprintf drand48 drand48_data drem dsqrtl dsubl dup dup2 dup3 duplocale dysize eaccess ecvt endusershell environ
erand48 erf erfc errno euidaccess execl execle execlp execv execve execveat execvp execvpe exit exp exp10 exp2
explicit_bzero expm1 f32addf128 f32addf32x f32addf64 f32addf64x f32divf128 f32divf32x f32divf64 f32divf64x f32fmaf128
f32fmaf32x f32fmaf64 f32fmaf64x f32mulf128 f32mulf32x f32mulf64 f32mulf64x f32sqrtf128 f32sqrtf32x f32sqrtf64
f32sqrtf64x f32subf128 f32subf32x f32subf64 f32subf64x f32xaddf128 f32xaddf64 f32xaddf64x f32xdivf128 f32xdivf64
f32xdivf64x f32xfmaf128 f32xfmaf64 f32xfmaf64x f32xmulf128 f32xmulf64 f32xmulf64x f32xsqrtf128 f32xsqrtf64
f32xsqrtf64x f32xsubf128 f32xsubf64 f32xsubf64x f64addf128 f64addf64x f64divf128 f64divf64x f64fmaf128 f64fmaf64x
f64mulf128 f64mulf64x f64sqrtf128 f64sqrtf64x f64subf128 f64subf64x f64xaddf128 f64xdivf128 f64xfmaf128 f64xmulf128
f64xsqrtf128 f64xsubf128 fabs faccessat fadd fchdir fchown fchownat fclose fcloseall fcvt fd_mask fd_set fdatasync
fdim fdiv fdopen feclearexcept fedisableexcept feenableexcept fegetenv fegetexcept fegetexceptflag fegetmode
fegetround feholdexcept feof feraiseexcept ferror fesetenv fesetexcept fesetexceptflag fesetmode fesetround
fetestexcept fetestexceptflag feupdateenv fexecve fflush ffma ffs ffsll fgetc fgetpos fgets fgetwc fgetws fileno
finite flatbuffers flockfile floor fma fmax fmaximum fmaximum_mag fmaximum_mag_num fmaximum_num fmaxmag fmemopen fmin
fminimum fminimum_mag fminimum_mag_num fminimum_num fminmag fmod fmul fopen fopencookie fork fpathconf fprintf fputc
fputs fputwc fputws fread free freelocale freopen frexp fromfp fromfpx fscanf fseek fseeko fsetpos fsqrt fsub fsync
ftell ftello ftruncate ftrylockfile funlockfile fwide fwprintf fwrite fwscanf gamma gcvt get_current_dir_name getc
getchar getcpu getcwd getdate getdate_err getdelim getdomainname getdtablesize getegid getentropy getenv geteuid
getgid getgroups gethostid gethostname getline getloadavg getlogin getopt getpagesize getpass getpayload getpgid
getpgrp getpid getppid getpt getresgid getresuid getsid getsubopt gettid getuid getusershell getw getwc getwchar getwd
gmtime grantpt group_member gsignal hypot ilogb imaxabs imaxdiv index initstate isalnum isalpha isascii isatty isblank
iscanonical iscntrl isctype isdigit iseqsig isgraph isinff isinfl islower isnanf isnanl isprint ispunct issignaling
isspace isupper isxdigit iszero itimerspec j0 j1 jmp_buf jn jrand48 kill killpg l64a labs lchown lcong48 lconv ldexp
ldiv lgamma lgammaf128_r lgammaf32_r lgammaf32x_r lgammaf64_r lgammaf64x_r lgammaf_r lgammal_r link linkat linux llabs
lldiv llogb llrint llround localeconv localtime lockf log log10 log1p log2 logb longjmp lrand48 lrint lround lseek
main malloc math_errhandling mblen mbrlen mbrtoc16 mbrtoc32 mbrtoc8 mbrtowc mbsinit mbsnrtowcs mbsrtowcs mbstowcs
mbtowc memccpy memchr memcmp memcpy memfrob memmem memmove mempcpy memrchr memset mkdtemp mkostemp mkostemps mkstemp
mkstemps mktemp mktime modf mrand48 nan nanosleep nearbyint newlocale nextafter nextdown nexttoward nextup nice
nrand48 obstack obstack_printf obstack_vprintf on_exit open_memstream open_wmemstream optarg opterr optind optopt
pathconf pause pclose perror pipe pipe2 popen posix_memalign posix_openpt pow pread printf profil
program_invocation_name program_invocation_short_name pselect psiginfo psignal ptsname putc putchar putenv puts putw
putwc putwchar pwrite qecvt qfcvt qgcvt qsort quick_exit raise rand random random_data rawmemchr read readlink
readlinkat realloc reallocarray realpath remainder remove remquo rename renameat renameat2 revoke rewind rindex rint
rmdir round roundeven rpmatch sa_handler sa_sigaction sbrk scalb scalbln scalbn scanf secure_getenv seed48 select
setbuf setbuffer setdomainname setegid setenv seteuid setgid sethostid sethostname setjmp setlinebuf setlocale
setlogin setns setpayload setpayloadsig setpgid setpgrp setregid setresgid setresuid setreuid setsid setstate setuid
setusershell setvbuf si_addr si_addr_lsb si_arch si_band si_call_addr si_fd si_int si_lower si_overrun si_pid si_pkey
si_ptr si_status si_stime si_syscall si_timerid si_uid si_upper si_utime si_value sigabbrev_np sigaction sigaddset
sigaltstack sigandset sigblock sigcontext sigdelset sigdescr_np sigemptyset sigev_notify_attributes
sigev_notify_function sigevent sigfillset siggetmask sighold sigignore siginterrupt sigisemptyset sigismember
sigjmp_buf siglongjmp signal signgam significand sigorset sigpause sigpending sigprocmask sigqueue sigrelse sigreturn
sigset sigsetmask sigstack sigsuspend sigtimedwait sigval sigwait sigwaitinfo sin sincos sinh sleep snprintf sprintf
sqrt srand srand48 srandom sscanf ssignal std stderr stdin stdout stpcpy stpncpy strcasecmp strcasestr strcat strchr
strchrnul strcmp strcoll strcpy strcspn strdup strerror strerrordesc_np strerrorname_np strfromd strfromf strfromf128
strfromf32 strfromf32x strfromf64x strfroml strfry strftime strlen strncasecmp strncat strncmp strncpy strndup strnlen
strpbrk strptime strrchr strsep strsignal strspn strstr strtod strtof strtof128 strtof32 strtof32x strtof64_l
strtof64x strtoimax strtok strtol strtold strtoll_l strtoq strtoul strtoull_l strtoumax strtouq strverscmp strxfrm
swab swprintf swscanf symlink symlinkat sync syncfs syscall sysconf system sysv_signal tan tanh tcgetpgrp tcsetpgrp
tempnam tflite tgamma tgkill time timegm timelocal timespec timespec_get timespec_getres timeval timex timezone tm
tmpfile tmpnam toascii tolower totalorder totalordermag toupper trunc truncate ttyname ttyslot tzname tzset u_char
u_int u_long u_short ualarm ufromfp ufromfpx uint ulong ungetc ungetwc unix unlink unlinkat unlockpt unsetenv unshare
uselocale ushort usleep va_list valloc vasprintf vdprintf vfork vfprintf vfscanf vfwprintf vfwscanf vhangup vprintf
vscanf vsnprintf vsprintf vsscanf vswprintf vswscanf vwprintf vwscanf wcpcpy wcpncpy wcrtomb wctob wctomb wctrans
wctype wcwidth wprintf write wscanf y0 y1 yn
"""

KEYWORDS, HEADERS, TAKEN = (frozenset(text.split()) for text in (_KEYWORDS, _HEADERS, _TAKEN))
#: `cosf`, `cosl`, `cosf32x`; `fopen64`; `rand_r`; `isalpha_l`; `getc_unlocked`.
VARIANTS = ("f", "l", "f16", "f32", "f64", "f128", "f32x", "f64x", "64", "_r", "_l", "_unlocked")
#: Whole families of such names, and those that are for types or macros.
FAMILIES = re.compile(
    r"(pthread|sched|clock|timer|M|REG)_\w+|(PRI|SCN)[a-zX]([A-Z]|\d)\w*|isw[abcdglpsux]\w+|tow(lower|upper|ctrans)\w*"
    r"|(wcs|wmem)\w+|\w+_t"
)


def why_not(name: str) -> str:
    """Return why a name cannot be a namespace's; "" if it can."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return "no C identifier: letters, digits and _, not beginning with a digit"
    if name in KEYWORDS:
        return "a word of C or C++"
    if name.lower() in HEADERS:
        return "the name of a header of C"
    variants = {name.removesuffix(end) for end in VARIANTS} & TAKEN
    if name in TAKEN or variants or FAMILIES.fullmatch(name):
        return "a name of the standard library or of the runtime"
    if name.startswith("_") or "__" in name:
        return "reserved for the compiler, as all names that begin with _ or hold __"
    if name.startswith("k_"):
        return "a name as the functions inside of plain C packages have"
    return "" if re.search("[a-z]", name) else "a name of capitals alone, as macros have"


def chosen_name(name: str | None, path: str | os.PathLike) -> str:
    """Return the name for what a package declares: the one that is asked for, or one made from the folder's.

    Raises:
        ArgumentError: the name is none that C and C++ allow.
    """
    if name is None:
        given = unicodedata.normalize("NFKD", target_of(path, ExportError)[0].name).encode("ascii", "ignore").decode()
        words = re.findall("[a-z0-9]+", given.lower())
        made = "_".join(words) or "model"
        return next(form for form in (made, f"model_{made}", f"model_{made}_") if not why_not(form))
    reason = "no text" if not isinstance(name, str) else why_not(name)
    if reason:
        raise ArgumentError(
            "`name` becomes the namespace of the C++ files, or the name of the C struct, and of the files.",
            expected="a C identifier that C and C++ do not use themselves",
            received=f"{name!r}, {reason}",
            remedy="Pass e.g. name='gesture'.",
        )
    return name
