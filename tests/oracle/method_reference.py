# Copied unchanged from the method reference: the oracle that tests/checks compares the shipped code with.
# Terse on purpose; excluded from ruff and mypy in pyproject.toml (extend-exclude; mypy reads no tests).
"""Reference for METHOD.md: terse, scalar, numpy/scipy only. An oracle to test against, not code to ship as it stands.  Logs, + = worse.
x_j = +ln(latency) or -ln(throughput) of one TRIAL = one fresh deployment, aggregated over its k repeats (k>=3: median, else mean).
D_i = x_cand,i - x_base,i  for pair i, order A B | B A | A B | B A ..."""
import functools
import numpy as np
from scipy import stats

# ---------- 1. variance prior of a (runner, scenario, metric) from past rounds --------------------------------
def fit_prior(history, d0_max=10.0):
    """history: list of (s2, df): variance of the pair differences of each past gate / A-A round (effect-free by construction).
    -> d0, s0sq.  robust: df-weighted median of s2 * df / chi2_median(df)."""
    h = [(s, f) for s, f in history if f >= 1 and s > 0]
    D = sum(f for _, f in h)
    if D == 0: return 0.0, None
    v = np.array([s*f/stats.chi2.median(f) for s, f in h]); w = np.array([f for _, f in h], float)
    o = np.argsort(v); c = np.cumsum(w[o]); s0 = v[o][np.searchsorted(c, c[-1]/2)]
    return d0_max*D/(d0_max+D), float(s0)

# ---------- 2. estimate with moderated, guarded, winsorised variance -------------------------------------------
def estimate(D, d0, s0sq, c=2.5):
    D = np.asarray(D, float); n = len(D)
    if d0 <= 0 or s0sq is None:                               # no history: plain paired t
        return D.mean(), D.std(ddof=1)/np.sqrt(n), n-1.0, D.var(ddof=1), 0
    med = np.median(D); mad2 = (1.4826*np.median(np.abs(D-med)))**2
    k = c*np.sqrt((d0*s0sq+(n-1)*mad2)/(d0+n-1))
    m = med
    for _ in range(20): m += np.clip(D-m, -k, k).mean()       # Huber location, fixed scale
    r = D-m; inside = max(np.mean(np.abs(r) < k), .5)
    s2 = (np.clip(r, -k, k)**2).sum()/(n-1)
    w = min(1.0, stats.f.sf(s2/s0sq, n-1, d0)/.25)            # guard: today noisier than history -> prior loses weight
    de = d0*w; v = (de*s0sq+(n-1)*s2)/(de+n-1)
    return m, np.sqrt(v/n)/inside, de+n-1.0, v, int(np.sum(np.abs(r) >= k))

def noise_multiplier(metric_D, priors, a=4.0, kappa=.5, c=2.5):
    """noise of today relative to history, pooled over the suite's metrics; multiply every s0sq by it before estimate()."""
    num = den = a
    for D, (d0, s0) in zip(metric_D, priors):
        if d0 <= 0 or len(D) < 2: continue
        D = np.asarray(D, float); n = len(D); med = np.median(D); mad2 = (1.4826*np.median(np.abs(D-med)))**2
        k = c*np.sqrt((d0*s0+(n-1)*mad2)/(d0+n-1)); m = med
        for _ in range(20): m += np.clip(D-m, -k, k).mean()
        num += kappa*(np.clip(D-m, -k, k)**2).sum()/s0; den += kappa*(n-1)
    return max(1.0, num/den)

# ---------- 3. group-sequential boundaries (one sided, alpha(t)=alpha*t^1.5, t=n/n_max) --------------------------
def gs_bounds(alpha, looks, rho=1.5):
    return _gs(float(alpha), tuple(int(n) for n in looks), float(rho))

@functools.lru_cache(maxsize=None)
def _gs(alpha, looks, rho, grid=801, zmax=8.0):
    fr = np.asarray(looks, float)/looks[-1]; inc = np.diff(np.r_[0, alpha*fr**rho]); zs = [stats.norm.isf(inc[0])]
    x = np.linspace(-zmax, zs[0], grid)*np.sqrt(fr[0]); tr = lambda x: np.r_[.5, np.ones(len(x)-2), .5]*(x[1]-x[0])
    f = stats.norm.pdf(x, 0, np.sqrt(fr[0]))*tr(x)
    for k in range(1, len(fr)):
        sd = np.sqrt(fr[k]-fr[k-1]); lo, hi = -2.0, 12.0
        for _ in range(60):
            z = .5*(lo+hi); lo, hi = (z, hi) if (f*stats.norm.sf((z*np.sqrt(fr[k])-x)/sd)).sum() > inc[k] else (lo, z)
        zs.append(z); y = np.linspace(-zmax*np.sqrt(fr[k]), z*np.sqrt(fr[k]), grid)
        f = (f[None, :]*stats.norm.pdf((y[:, None]-x[None, :])/sd)/sd).sum(1)*tr(y); x = y
    return np.array(zs)

# ---------- 4. one metric at one look ----------------------------------------------------------------------------
def read_metric(D, prior, delta, looks, a_reg, a_ni, a_imp=None):
    n = len(D); j = list(looks).index(n); est, se, df, v, clipped = estimate(D, *prior)
    q = lambda a: stats.t.isf(stats.norm.sf(gs_bounds(a, looks)[j]), df)*se
    L, U, Ui = est-q(a_reg), est+q(a_ni), est+q(a_imp or a_reg)
    verdict = "improved" if Ui < 0 else "no_worse" if U < delta else "regressed" if L > 0 else "inconclusive"
    return dict(verdict=verdict, est=est, lo=L, hi=U, se=se, df=df, n=n, slower_within_margin=bool(verdict == "no_worse" and L > 0),
                p_two_sided=2*stats.t.sf(abs(est)/se, df), clipped=clipped, pct=100*np.expm1(est))

def n_max_for(s0sq, delta, budget=8, floor=4):               # >= ~95 % conclusive at theta in {0, delta}
    return int(np.clip(np.ceil(24*s0sq/delta**2), floor, budget))
def mde(s0sq, n_max): return np.sqrt(24*s0sq/n_max)          # smallest margin the runner can resolve with n_max pairs
def repeats(t_start, t_rep, var_dep, var_rep): return max(1, int(round(np.sqrt(t_start/t_rep*var_rep/max(var_dep, 1e-12)))))

# ---------- 5. nightly GLR ------------------------------------------------------------------------------------------
def glr(x, d0, s0sq, W=30, npre=8, c=3.0, b=3.3, tonight=3.0):
    """x: readings since the last accepted level (oldest first, tonight last). -> (alarm, z, index of first bad night, step)"""
    x = np.asarray(x, float); t = len(x)-1
    if t < npre: return False, 0.0, None, 0.0
    med = np.median(x[:-1]); n = min(t, 30); mad2 = (1.4826*np.median(np.abs(x[:-1]-med)))**2
    k = c*np.sqrt((d0*s0sq+n*mad2)/(d0+n)); y = np.clip(x-med, -k, k); best = (0.0, None, 0.0)
    for tau in range(max(npre, t-W+1), t+1):
        a, p = y[:tau], y[tau:]
        df = d0+len(a)-1+len(p)-1; v = (d0*s0sq+((a-a.mean())**2).sum()+((p-p.mean())**2).sum())/df
        T = (p.mean()-a.mean())/np.sqrt(v*(1/len(a)+1/len(p)))
        z = np.sqrt(df*np.log1p(T*T/df))*(8*df+1)/(8*df+3)      # Wallace: t -> z
        if z > best[0]: best = (z, tau, np.median(x[tau:])-np.median(x[:tau]))
    a = y[:t]; df = d0+t-1; sd = np.sqrt((d0*s0sq+((a-a.mean())**2).sum())/df)     # tonight alone, not clipped: trigger 3.0
    T = (x[t]-med-a.mean())/(sd*np.sqrt(1+1/t)); z1 = np.sqrt(df*np.log1p(T*T/df))*(8*df+1)/(8*df+3)
    if z1 > tonight and z1 > best[0]: return True, z1, t, x[t]-np.median(x[:t])
    return best[0] > b, best[0], best[1], best[2]

# ---------- 6. accuracy ---------------------------------------------------------------------------------------------
def accuracy(base, cand, frac=.99, alpha=.025):
    """per-item mean score over the runs of each build (same items, same order)."""
    A, B = np.asarray(base, float), np.asarray(cand, float); n = len(A); z = stats.norm.isf(alpha)
    d = B-A; se = d.std(ddof=1)/np.sqrt(n); up, dn = int((d > 0).sum()), int((d < 0).sum())
    midp = stats.binom.sf(dn, max(up+dn, 1), .5)+.5*stats.binom.pmf(dn, max(up+dn, 1), .5)   # P(more losses), mid-p
    W = B-frac*A; sw = W.std(ddof=1)/np.sqrt(n)
    v = "pass" if W.mean()-z*sw > 0 else "fail" if W.mean()+z*sw < 0 else "inconclusive"
    return dict(acc_base=A.mean(), acc_cand=B.mean(), ratio=B.mean()/A.mean(), diff=d.mean(), ci=(d.mean()-z*se, d.mean()+z*se), lost=dn, gained=up,
                worse_p=float(midp) if set(np.unique(np.r_[A, B])) <= {0., 1.} else float(stats.norm.sf(-d.mean()/max(se, 1e-12))), ni=v, point_rule=bool(B.mean() >= frac*A.mean()))
def items_needed(flip, acc, frac=.99, runs=1, alpha=.025, power=.9):
    return int(np.ceil((stats.norm.isf(alpha)+stats.norm.ppf(power))**2*flip/runs/((1-frac)*acc)**2))
