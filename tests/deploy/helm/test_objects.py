"""What the chart's objects say, compared with hbtd: arguments, probes, Services, alerts."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml

from hbtd.config.command_line import HbtdOptions
from hbtd.config.params import PARAMETERS, Params
from hbtd.ctl.arguments import parse as parse_hbtctl
from hbtd.smoke.arguments import parse as parse_smoke
from tests.support.helm import ALL, CHART, EVERYTHING, ChartTestCase, Object, render, values_of
from tests.support.processes import CHECKOUT

ORIGINAL = values_of("values-cray-hms-hbtd.yaml")


def parsed(container: Object) -> Params:
    """Return the parameters that hbtd takes from a container's arguments."""
    options = HbtdOptions({"HBTD_ORIGINAL_ENV": "yes", "KV_URL": ""})  # as in the image
    options.parseOptions(container["args"])
    return options.params


class ArgumentsTests(ChartTestCase):
    """What hbtd is started with."""

    def test_parsed(self) -> None:
        """Hbtd's own parser takes the arguments, whatever the values."""
        for values in ALL.values():
            parsed(self.container(values))

    def test_each_option(self) -> None:
        """Each option is passed on as it is given: numbers in full, yes and no as such."""
        given: dict[str, Any] = {
            p.name: p.default if isinstance(p.default, int) else "x y" for p in PARAMETERS
        }
        given |= {"kv_url": "http://e:1", "max_body_bytes": 123456789, "nosm": True, "listen": None}
        arguments = self.container({"options": given})["args"]
        expected = {**given, "max_body_bytes": "123456789"}
        del expected["listen"]
        for name, value in expected.items():
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            self.assertIn(f"--{name}={text}", arguments)
        self.assertEqual(len(arguments), len(expected))

    def test_large_numbers(self) -> None:
        """The largest number that an option takes arrives as it was written."""
        params = parsed(self.container(EVERYTHING))
        self.assertEqual((params.max_components, params.sm_timeout), (1000000, 15))
        self.assertIn("--history_count=4294967295", self.container(EVERYTHING)["args"])

    def test_secrets(self) -> None:
        """Each file that an option names is in a Secret's directory, mounted as a whole."""
        objects = render(EVERYTHING)
        pod = self.find(objects, "Deployment")["spec"]["template"]["spec"]
        container = pod["containers"][0]
        volumes = {each["name"]: each for each in pod["volumes"]}
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        params = parsed(container)
        secrets = EVERYTHING["secrets"]
        named: dict[str, str] = {
            params.tls_cert: "tls",
            params.tls_key: "tls",
            params.tls_client_ca: "clientCA",
            params.tls_client_crl: "clientCRL",
            params.operator_access.partition(":")[2]: "tokens",
            params.node_access.partition(":")[2]: "jwks",
            params.sm_ca: "hsmCA",
            params.sm_cert: "hsmClient",
            params.sm_key: "hsmClient",
            params.sm_token: "hsmToken",
            params.kv_login: "etcdLogin",
            params.kv_ca: "etcdCA",
            params.kv_cert: "etcdClient",
            params.kv_key: "etcdClient",
            params.telemetry_ca: "kafkaCA",
            params.telemetry_cert: "kafkaClient",
            params.telemetry_key: "kafkaClient",
            params.telemetry_login: "kafkaLogin",
        }
        self.assertTrue(params.telemetry_tls)
        # Nothing beside the files lets anybody in.
        access = (params.operator_access, params.node_access)
        self.assertEqual(access, ("token:/etc/hbtd/tokens/tokens", "jwt:/etc/hbtd/jwks/jwks.json"))
        for path, secret in named.items():
            mount = mounts[path.rpartition("/")[0]]
            self.assertNotIn("subPath", mount)
            self.assertTrue(mount["readOnly"])
            source = volumes[mount["name"]]["secret"]
            # Not optional: a pod without its Secret waits for it, and does not start without.
            self.assertEqual(source, {"secretName": secrets[secret], "defaultMode": 0o440})
        self.assertEqual(set(named.values()), set(secrets))
        # A Secret has the files that values.yaml says; Kubernetes' own ones have such names.
        written = (CHART / "values.yaml").read_text()
        for secret in secrets:
            comment = re.findall(rf"# (`[^:]*`): [^\n]*\n(?:  #[^\n]*\n)?  {secret}:", written)
            files = {path.rpartition("/")[2] for path, of in named.items() if of == secret}
            self.assertEqual(set(re.findall("`([^`]*)`", comment[-1])), files, secret)
        self.assertEqual(pod["securityContext"]["fsGroup"], 65534)

    def test_kafka(self) -> None:
        """Whom to trust at Kafka, or a certificate for it, have Kafka be used with TLS."""
        for secret, tls in (("kafkaCA", True), ("kafkaClient", True), ("kafkaLogin", False)):
            self.assertIs(parsed(self.container({"secrets": {secret: "x"}})).telemetry_tls, tls)

    def test_options_precede(self) -> None:
        """An option that is given precedes what a Secret stands for."""
        values = {"options": {"operator_access": "any"}, "secrets": {"tokens": "tokens"}}
        self.assertEqual(parsed(self.container(values)).operator_access, "any")

    def test_confined(self) -> None:
        """Hbtd and its test run as 65534, without capabilities, and can't write their root."""
        for values in ({}, EVERYTHING, ORIGINAL):
            objects = render(values)
            deployed = self.find(objects, "Deployment")["spec"]["template"]["spec"]
            for pod in (deployed, self.find(objects, "Pod")["spec"]):
                of = pod["securityContext"]
                self.assertEqual((of["runAsUser"], of["runAsNonRoot"]), (65534, True))
                self.assertEqual(of["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertIs(pod["automountServiceAccountToken"], False)
                for container in pod["containers"]:
                    of = container["securityContext"]
                    self.assertEqual(of["capabilities"], {"drop": ["ALL"]})
                    self.assertIs(of["readOnlyRootFilesystem"], True)
                    self.assertIs(of["allowPrivilegeEscalation"], False)


class LifeTests(ChartTestCase):
    """How the kubelet asks, stops and replaces hbtd."""

    def test_probes(self) -> None:
        """Probes ask for paths that hbtd answers with 204, over TLS only if it serves that."""
        paths = json.loads((CHECKOUT / "hbtd" / "api" / "openapi.json").read_text())["paths"]
        for values, scheme in (({}, "HTTPS"), (ORIGINAL, "HTTP")):
            container = self.container(values)
            of = {"startup": "/liveness", "liveness": "/liveness", "readiness": "/readiness"}
            for name, path in of.items():
                get = container[f"{name}Probe"]["httpGet"]
                self.assertEqual(get, {"path": f"/hmi/v1{path}", "port": "http", "scheme": scheme})
                self.assertIn("204", paths[path]["get"]["responses"])
            self.assertEqual([each["name"] for each in container["ports"]], ["http"])
            self.assertEqual(container["ports"][0]["containerPort"], parsed(container).port)

    def test_probe_times(self) -> None:
        """An hbtd that is slow for a while is not restarted, and one that etcd leaves is seen."""
        container = self.container({})
        waits = {}
        for name, times in values_of("values.yaml")["probes"].items():
            if name != "prefix":
                probe = container[f"{name}Probe"]
                self.assertEqual({**probe, **times}, probe)
                waits[name] = probe["periodSeconds"] * probe["failureThreshold"]
        self.assertGreaterEqual(waits["startup"], 60)
        self.assertGreaterEqual(waits["liveness"], 60)
        self.assertLessEqual(waits["readiness"], 15)
        changed = {"probes": {"liveness": {"failureThreshold": 9}}}
        self.assertEqual(self.container(changed)["livenessProbe"]["failureThreshold"], 9)

    def test_probes_inside(self) -> None:
        """Where the kubelet can't ask, `hbtd --health` in the container does."""
        clients = {"tls": "x", "clientCA": "x"}
        for values in (
            {"options": {"tls_client_required": True}, "secrets": clients},
            {"options": {"listen": "tcp:28500"}},
        ):
            container = self.container(values)
            for name in ("startupProbe", "livenessProbe", "readinessProbe"):
                self.assertEqual(
                    container[name]["exec"]["command"], ["/opt/hbtd/bin/hbtd", "--health"]
                )
                self.assertNotIn("httpGet", container[name])
            # HbtdRequestsRefused fires at more than 100 refusals in ten minutes.
            running = (container["livenessProbe"], container["readinessProbe"])
            asked = sum(600 / probe["periodSeconds"] for probe in running)
            self.assertLess(asked, 100)

    def test_stop(self) -> None:
        """A replica has as long as hbtd may take to stop before it is killed."""
        for values, seconds in (({}, 5 + 20 + 10), (EVERYTHING, 5 + 30 + 10), (ORIGINAL, 30)):
            pod = self.find(render(values), "Deployment")["spec"]["template"]["spec"]
            stop = parsed(pod["containers"][0]).sm_timeout
            self.assertEqual(pod["terminationGracePeriodSeconds"], seconds)
            self.assertGreater(seconds, 2 * stop + 5)
        lifecycle = self.container({})["lifecycle"]
        self.assertEqual(lifecycle["preStop"]["exec"]["command"], ["/bin/sleep", "5"])
        self.assertNotIn("lifecycle", self.container(ORIGINAL))

    def test_replaced(self) -> None:
        """Replicas are replaced one by one, evicted one by one, and are on hosts of their own."""
        objects = render({})
        deployment = self.find(objects, "Deployment")["spec"]
        self.assertEqual(deployment["replicas"], 3)
        rolling = deployment["strategy"]["rollingUpdate"]
        self.assertEqual(rolling, {"maxSurge": 0, "maxUnavailable": 1})
        self.assertEqual(self.find(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1)
        spread = deployment["template"]["spec"]["topologySpreadConstraints"][0]
        self.assertEqual(spread["topologyKey"], "kubernetes.io/hostname")
        self.assertEqual(spread["whenUnsatisfiable"], "DoNotSchedule")
        self.assertEqual((spread["maxSkew"], spread["nodeTaintsPolicy"]), (1, "Honor"))
        changed = render({"podDisruptionBudget": {"maxUnavailable": 2}})
        self.assertEqual(self.find(changed, "PodDisruptionBudget")["spec"]["maxUnavailable"], 2)


class SiteTests(ChartTestCase):
    """What a site says about its cluster is passed on as it is."""

    def test_pod(self) -> None:
        """Where pods run, with what besides."""
        deployment = self.find(render(EVERYTHING), "Deployment")["spec"]["template"]
        pod, container = deployment["spec"], deployment["spec"]["containers"][0]
        for name in (
            *("affinity", "nodeSelector", "tolerations", "priorityClassName"),
            *("serviceAccountName", "imagePullSecrets"),
        ):
            self.assertEqual(pod[name], EVERYTHING[name], name)
        self.assertEqual(container["env"], EVERYTHING["env"])
        self.assertEqual(container["resources"], EVERYTHING["resources"])
        self.assertIn(EVERYTHING["extraVolumes"][0], pod["volumes"])
        self.assertIn(EVERYTHING["extraVolumeMounts"][0], container["volumeMounts"])
        for name, given in (("annotations", "podAnnotations"), ("labels", "podLabels")):
            self.assertLessEqual(EVERYTHING[given].items(), deployment["metadata"][name].items())

    def test_services(self) -> None:
        """How nodes and others get to the Services."""
        objects = render(EVERYTHING)
        for suffix, values in (("hbtd", "service"), ("-api", "apiService")):
            made, given = self.find(objects, "Service", suffix), EVERYTHING[values]
            self.assertEqual(made["metadata"]["annotations"], given["annotations"])
            self.assertEqual(made["spec"]["type"], given["type"])
        nodes = self.find(objects, "Service", "hbtd")["spec"]
        self.assertEqual(nodes["ports"][0]["nodePort"], 30500)
        self.assertEqual(nodes["externalTrafficPolicy"], "Local")
        ready = render({"service": {"publishNotReadyAddresses": False}})
        self.assertIs(
            self.find(ready, "Service", "hbtd")["spec"]["publishNotReadyAddresses"], False
        )

    def test_network_policy(self) -> None:
        """Who may connect, and to hbtd's port alone."""
        (rule,) = self.find(render(EVERYTHING), "NetworkPolicy")["spec"]["ingress"]
        self.assertEqual(rule["from"], EVERYTHING["networkPolicy"]["from"])
        self.assertEqual(rule["ports"], [{"port": "http", "protocol": "TCP"}])


class SelectorTests(ChartTestCase):
    """Who finds the pods."""

    def test_selected(self) -> None:
        """Each selector finds hbtd's pods, by labels that no new version changes, and no others."""
        for values in ALL.values():
            objects = render(values)
            deployment = self.find(objects, "Deployment")
            pod = deployment["spec"]["template"]["metadata"]["labels"]
            selectors = [deployment["spec"]["selector"]["matchLabels"]]
            for each in objects:
                spec = each.get("spec", {})
                if each["kind"] == "Service":
                    selectors.append(spec["selector"])
                elif each["kind"] == "PodDisruptionBudget":
                    selectors.append(spec["selector"]["matchLabels"])
                elif each["kind"] == "NetworkPolicy":
                    selectors.append(spec["podSelector"]["matchLabels"])
            spread = deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
            selectors += [each["labelSelector"]["matchLabels"] for each in spread]
            smoke = self.find(objects, "Pod")["metadata"]["labels"]
            for selector in selectors:
                names = {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
                self.assertEqual(set(selector), names)
                self.assertLessEqual(selector.items(), pod.items())
                self.assertFalse(selector.items() <= smoke.items())

    def test_services(self) -> None:
        """Nodes reach replicas that are not ready, and whoever asks reaches ready ones only."""
        objects = render({})
        nodes = self.find(objects, "Service", "hbtd")["spec"]
        api = self.find(objects, "Service", "-api")["spec"]
        self.assertIs(nodes["publishNotReadyAddresses"], True)
        self.assertNotIn("publishNotReadyAddresses", api)
        for service in (nodes, api):
            port = service["ports"][0]
            self.assertEqual(
                (port["name"], port["targetPort"], port["port"]), ("http", "http", 28500)
            )

    def test_monitored(self) -> None:
        """The ServiceMonitor finds one Service, the one with all replicas, at hbtd's metrics."""
        objects = render(EVERYTHING)
        monitor = self.find(objects, "ServiceMonitor")["spec"]
        wanted = monitor["selector"]["matchLabels"].items()
        found = [
            each
            for each in objects
            if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
        ]
        self.assertEqual(len(found), 1)
        self.assertIs(found[0]["spec"]["publishNotReadyAddresses"], True)
        self.assertIn(monitor["jobLabel"], found[0]["metadata"]["labels"])
        endpoint = monitor["endpoints"][0]
        self.assertEqual(endpoint["port"], found[0]["spec"]["ports"][0]["name"])
        self.assertEqual((endpoint["path"], endpoint["scheme"]), ("/metrics", "https"))
        self.assertEqual(endpoint["scrapeTimeout"], "5s")

    def test_alerts(self) -> None:
        """The PrometheusRule has the alerts of deploy/, with links to the runbook that is named."""
        rules = (CHECKOUT / "deploy" / "hbtd.rules.yml").read_text()
        links = rules.replace("docs/runbook.md", "https://docs.example/runbook")
        for runbook, text in (("docs/runbook.md", rules), ("https://docs.example/runbook", links)):
            values = {"prometheusRule": {"enabled": True, "runbook": runbook}}
            rule = self.find(render(values), "PrometheusRule")
            self.assertEqual(rule["spec"], yaml.safe_load(text))

    def test_dashboard(self) -> None:
        """The ConfigMap has the dashboard of deploy/."""
        made = self.find(render(EVERYTHING), "ConfigMap")["data"]["hbtd.json"]
        text = (CHECKOUT / "deploy" / "grafana" / "hbtd.json").read_text()
        self.assertEqual(json.loads(made), json.loads(text))


class OriginalTests(ChartTestCase):
    """The values with which a release of the original's chart, cray-hms-hbtd, is taken over."""

    def setUp(self) -> None:
        """Render them for a release of the original's name."""
        self.objects = render(ORIGINAL, "cray-hms-hbtd")
        self.deployment = self.find(self.objects, "Deployment")

    def test_same(self) -> None:
        """Names and what can't be changed in place are the original's, and so are its ports."""
        self.assertEqual(self.deployment["metadata"]["name"], "cray-hbtd")
        labels = {
            "app.kubernetes.io/name": "cray-hbtd",
            "app.kubernetes.io/instance": "cray-hms-hbtd",
        }
        self.assertEqual(self.deployment["spec"]["selector"], {"matchLabels": labels})
        service = self.find(self.objects, "Service")
        self.assertEqual(service["metadata"]["name"], "cray-hbtd")
        self.assertEqual(
            (service["spec"]["type"], service["spec"]["selector"]), ("ClusterIP", labels)
        )
        port = {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}
        self.assertEqual(service["spec"]["ports"], [port])
        container = self.deployment["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(container["name"], "cray-hbtd")
        self.assertEqual(container["ports"][0]["containerPort"], 28500)

    def test_apart(self) -> None:
        """No two of its pods are on one host, as with the original."""
        template = self.deployment["spec"]["template"]
        rules = template["spec"]["affinity"]["podAntiAffinity"]
        (rule,) = rules["requiredDuringSchedulingIgnoredDuringExecution"]
        self.assertEqual(rule["topologyKey"], "kubernetes.io/hostname")
        (wanted,) = rule["labelSelector"]["matchExpressions"]
        self.assertEqual(wanted["operator"], "In")
        self.assertIn(template["metadata"]["labels"][wanted["key"]], wanted["values"])

    def test_times(self) -> None:
        """Its times, etcd and HSM are the original's, so that both may run beside each other."""
        params = parsed(self.deployment["spec"]["template"]["spec"]["containers"][0])
        self.assertEqual((params.warntime, params.errtime, params.interval), (35, 60, 5))
        self.assertEqual(params.kv_url, "http://cray-hbtd-bitnami-etcd:2379")
        self.assertEqual(params.sm_url, "http://cray-smd/hsm/v2")
        self.assertFalse(params.tls)

    def test_gateway(self) -> None:
        """The gateway's path leads to it."""
        spec = self.find(self.objects, "VirtualService")["spec"]
        route = spec["http"][0]
        self.assertEqual(route["match"], [{"uri": {"prefix": "/apis/hbtd"}}])
        self.assertEqual(route["rewrite"], {"uri": " "})
        destination = {"host": "cray-hbtd", "port": {"number": 80}}
        self.assertEqual(route["route"], [{"destination": destination}])


class NotesTests(ChartTestCase):
    """What Helm prints after an installation."""

    def setUp(self) -> None:
        """Make a copy of the chart that has its notes in an object, as Helm renders no others."""
        self.chart = Path(self.mktemp()) / "hbtd"
        shutil.copytree(CHART, self.chart)
        (self.chart / "templates" / "notes.yaml").write_text(
            "kind: Notes\nmetadata: {name: notes}\n"
            'text: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}\n'
        )

    def notes(self, values: Object) -> str:
        """Return the notes that these values make."""
        return str(self.find(render(values, chart=self.chart), "Notes")["text"])

    def test_records(self) -> None:
        """They name etcd, without a password that somebody has put into its URL."""
        for url, shown in (
            ("https://etcd-0:2379,https://etcd-1:2379", "https://etcd-0:2379,https://etcd-1:2379."),
            ("https://u:secret@etcd:2379", "https://u:...@etcd:2379."),
            ("", "the etcd of ETCD_HOST."),
        ):
            first = self.notes({"options": {"kv_url": url}}).strip().splitlines()[0]
            self.assertTrue(first.endswith(f"with records in {shown}"), first)

    def test_command(self) -> None:
        """The command that they show is one of hbtctl, with all that hbtd asks of its caller."""
        clients = {"tls": "x", "clientCA": "x", "tokens": "x"}
        closed = {"reader_access": "operators", "tls_client_required": True}
        for values, options in (
            ({}, ["--ca"]),
            (ORIGINAL, []),
            ({"options": closed, "secrets": clients}, ["--ca", "--token-file", "--cert", "--key"]),
        ):
            notes = self.notes(values)
            (line,) = [each for each in notes.splitlines() if " exec " in each]
            program, *words = shlex.split(line.partition(" -- ")[2])
            self.assertEqual(program, "/opt/hbtd/bin/hbtctl")
            parse_hbtctl(words, {})
            given = [word.partition("=")[0] for word in words if word.startswith("--")]
            self.assertEqual(given, ["--url", *options])
            self.assertEqual("smoke.client" in notes, "--cert" in options)
            self.assertEqual("smoke.token" in notes, "--token-file" in options)


class SmokeTests(ChartTestCase):
    """What `helm test` runs."""

    def test_command(self) -> None:
        """The command is hbtd-smoke with arguments that it takes, for a Service that there is."""
        for values in ALL.values():
            objects = render(values)
            pod = self.find(objects, "Pod")
            self.assertEqual(pod["metadata"]["annotations"]["helm.sh/hook"], "test")
            self.assertEqual(pod["spec"]["restartPolicy"], "Never")
            container = pod["spec"]["containers"][0]
            self.assertEqual(container["command"], ["/opt/hbtd/bin/hbtd-smoke"])
            options = parse_smoke(container["args"], {})
            scheme, _, host = options.url.partition("://")
            name, _, rest = host.partition(".")
            service = self.find(objects, "Service", name)
            self.assertEqual(rest, f"services.svc:{service['spec']['ports'][0]['port']}")
            deployed = self.find(objects, "Deployment")["spec"]["template"]["spec"]
            self.assertEqual(scheme == "https", parsed(deployed["containers"][0]).tls)
            mounts = [each["mountPath"] for each in container.get("volumeMounts", [])]
            paths = [options.ca, options.token_file, options.cert]
            files = [str(path) for path in paths if path and "/" in str(path)]
            self.assertEqual(sorted(file.rpartition("/")[0] for file in files), sorted(mounts))
            # The files of Kubernetes' own kinds of Secrets, and that of hbtctl's token.
            names = {file.rpartition("/")[2] for file in files}
            self.assertLessEqual(names, {"ca.crt", "token", "tls.crt"})
            if options.key:
                self.assertEqual(str(options.key), "/etc/smoke/client/tls.key")
