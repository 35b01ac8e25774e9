"""The vocabulary: every noun the daemon stores or passes around, read at one sitting.

Times are unix seconds (`*_at`); sizes are bytes. Rows of two accounts never mix: each noun carries its `account_id`,
and (account_id, id) is its key. Wire names and casing belong to `api/`, SQL to `store/`.
"""

from appliance.domain.accounting import AcceleratorUser as AcceleratorUser
from appliance.domain.accounting import AuditEntry as AuditEntry
from appliance.domain.accounting import BudgetHold as BudgetHold
from appliance.domain.accounting import Quota as Quota
from appliance.domain.accounting import QuotaMetric as QuotaMetric
from appliance.domain.accounting import TokenCounts as TokenCounts
from appliance.domain.accounting import TokenUser as TokenUser
from appliance.domain.fleet import Footprint as Footprint
from appliance.domain.fleet import Lease as Lease
from appliance.domain.fleet import ReplicaRow as ReplicaRow
from appliance.domain.fleet import ReplicaState as ReplicaState
from appliance.domain.fleet import Reservation as Reservation
from appliance.domain.nouns import Noun as Noun
from appliance.domain.people import Account as Account
from appliance.domain.people import ApiKey as ApiKey
from appliance.domain.people import IdentityProvider as IdentityProvider
from appliance.domain.people import OidcConfig as OidcConfig
from appliance.domain.people import Origin as Origin
from appliance.domain.people import Principal as Principal
from appliance.domain.people import Role as Role
from appliance.domain.people import SamlConfig as SamlConfig
from appliance.domain.people import Secret as Secret
from appliance.domain.people import SuspendState as SuspendState
from appliance.domain.people import User as User
from appliance.domain.serving import AutoscalingPolicy as AutoscalingPolicy
from appliance.domain.serving import DeployedModel as DeployedModel
from appliance.domain.serving import DeployedModelState as DeployedModelState
from appliance.domain.serving import Deployment as Deployment
from appliance.domain.serving import DeploymentShape as DeploymentShape
from appliance.domain.serving import DeploymentState as DeploymentState
from appliance.domain.serving import LoadTarget as LoadTarget
from appliance.domain.serving import Precision as Precision
from appliance.domain.serving import ScalingDecision as ScalingDecision
from appliance.domain.serving import ScalingSchedule as ScalingSchedule
from appliance.domain.serving import ShapePreset as ShapePreset
from appliance.domain.storage import Dataset as Dataset
from appliance.domain.storage import DatasetFile as DatasetFile
from appliance.domain.storage import DatasetFormat as DatasetFormat
from appliance.domain.storage import DatasetState as DatasetState
from appliance.domain.storage import Model as Model
from appliance.domain.storage import ModelCheckpoint as ModelCheckpoint
from appliance.domain.storage import ModelKind as ModelKind
from appliance.domain.storage import ModelState as ModelState
from appliance.domain.storage import Operation as Operation
from appliance.domain.storage import OperationState as OperationState
from appliance.domain.storage import Preparation as Preparation
from appliance.domain.storage import PreparationState as PreparationState
from appliance.domain.storage import prepared_folder as prepared_folder
